//! How much memory there is: what this process has, and what it could still get, and how it gives back what it has no use for. Reads
//! the kernel's files; knows nothing of models.
#![allow(unsafe_code, reason = "no crate wraps malloc_trim: see the one call of it")]

use std::fs;
use std::path::Path;

/// The bytes of this process that are in memory; none where the kernel does not tell.
pub(crate) fn resident_bytes() -> Option<usize> {
    let pages: usize = fs::read_to_string("/proc/self/statm").ok()?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size())
}

/// The bytes that the machine, or this process's control group, could still give; none where the kernel does not tell.
pub(crate) fn available_bytes() -> Option<usize> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_machine(&text));
    let group = group_folder().and_then(|folder| of_group(Path::new(&folder)));
    [machine, group].into_iter().flatten().min()
}

/// Gives back what lies unused between what is used. A session's parts are made and freed on several threads, whose heaps the C
/// library would keep: 5 MiB for each session of a model of 5 MiB, until all heaps have some.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes a number and may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn of_machine(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// The second version's only: the first has been on its way out for years.
fn group_folder() -> Option<String> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(format!("/sys/fs/cgroup{}", path.trim_end()))
}

/// The file cache that the group's own figure has in it can be given back at any time.
fn of_group(folder: &Path) -> Option<usize> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let max: usize = read("memory.max")?.trim().parse().ok()?;
    let used: usize = read("memory.current")?.trim().parse().ok()?;
    let stat = read("memory.stat").unwrap_or_default();
    let cache = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<usize>().ok()).unwrap_or(0);
    Some(max.saturating_sub(used.saturating_sub(cache)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(available_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert_eq!(of_machine("MemTotal: 24 kB\nMemAvailable:   12 kB\n"), Some(12 * 1024));
        assert_eq!(of_machine("MemTotal: 24 kB\n"), None);
    }

    #[test]
    fn a_group_gives_what_it_has_left_and_its_cache() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(of_group(folder.path()), None);
        write("memory.max", "max\n");
        write("memory.current", "700\n");
        assert_eq!(of_group(folder.path()), None, "it has no bound");
        write("memory.max", "1000\n");
        assert_eq!(of_group(folder.path()), Some(300));
        write("memory.stat", "anon 100\ninactive_file 200\n");
        assert_eq!(of_group(folder.path()), Some(500));
    }
}
