//! The memory of NVIDIA's devices, as their driver tells it; without a driver there is nothing to tell. Knows nothing of models and
//! of what runs them.

use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;

/// The devices of this machine, asked through the driver's own library.
pub struct Devices(Option<Nvml>);

/// One device's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// The device's number, as a provider's `device_id` takes it.
    pub device: u32,
    /// There is so much,
    pub total: u64,
    /// so much of it is used, by whomever,
    pub used: u64,
    /// and so much by this process; none where the driver does not tell, as in most containers.
    pub own: Option<u64>,
}

impl Devices {
    /// Looks for the driver's library; that there is none is no error.
    pub fn find() -> Self {
        Self(Nvml::init().inspect_err(|error| tracing::debug!(%error, "no NVIDIA driver is found")).ok())
    }

    /// Of each device that tells it.
    pub fn memory(&self) -> Vec<DeviceMemory> {
        let Some(nvml) = &self.0 else { return Vec::new() };
        (0..nvml.device_count().unwrap_or(0)).filter_map(|device| memory(nvml, device).ok()).collect()
    }
}

fn memory(nvml: &Nvml, number: u32) -> Result<DeviceMemory, NvmlError> {
    let device = nvml.device_by_index(number)?;
    let memory = device.memory_info()?;
    let own = device.running_compute_processes().ok().and_then(|processes| {
        let own = processes.iter().find(|process| process.pid == std::process::id())?;
        match own.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        }
    });
    Ok(DeviceMemory { device: number, total: memory.total, used: memory.used, own })
}
