//! What this process and the device hold, as the system and the driver say.

use std::fs;
use std::process::Command;

const MIB: u64 = 1 << 20;

/// Bytes in use; of the device's, nothing where there is none.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) host: u64,
    pub(crate) device: Option<u64>,
}

impl Memory {
    pub(crate) fn now() -> Self {
        Self { host: resident(), device: on_device() }
    }

    pub(crate) fn told(self) -> String {
        let device = self.device.map_or_else(|| "unknown".to_owned(), |bytes| format!("{} MiB", bytes / MIB));
        format!("{} MiB of the host's, {device} of the device's", self.host / MIB)
    }
}

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of it");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") << 10
}

/// Of the first device as a whole: by process, drivers in containers say nothing.
fn on_device() -> Option<u64> {
    let query = ["--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"];
    let output = Command::new("nvidia-smi").args(query).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()?.trim().parse::<u64>().ok().map(|mebibytes| mebibytes * MIB)
}
