//! How much memory there is: what this process has, and what it could still get, and how it gives back what it has no use for. Reads
//! the kernel's files; knows nothing of models.
#![allow(unsafe_code, reason = "malloc_trim and madvise: see the one call of each")]

use std::path::Path;
use std::{fs, ptr};

use rustix::mm::Advice;

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

/// Unmaps the pages of these programs' and libraries' own code and constants: to start takes far more of them than to serve. What is needed
/// again comes back from the page cache, by page faults. The files must have been loaded, and must stay: of a library that is being loaded, or
/// goes away, the kernel's table may be out of date before it is read.
pub(crate) fn give_back_code(files: &[&Path]) {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for (start, bytes) in unwritten(&maps, files) {
        // SAFETY: the range is a private mapping of a file that was loaded and stays, which cannot be written to, and no page of it was when it
        // could: the kernel counts none that is not the file's. So the pages come back as they were.
        let released = unsafe { rustix::mm::madvise(ptr::without_provenance_mut(start), bytes, Advice::LinuxDontNeed) };
        if let Err(error) = released {
            tracing::debug!("pages of code stay resident: {error}");
        }
    }
}

/// Where the kernel's account of all mappings says that code and constants of these files lie as they are in them, and how many bytes they
/// have. Constants that the loader has put addresses in are not among them.
fn unwritten(smaps: &str, files: &[&Path]) -> Vec<(usize, usize)> {
    let (mut found, mut mapping) = (Vec::new(), None);
    for line in smaps.lines() {
        match line.split_once(':') {
            // Pages that are not the file's any more, where they are or swapped out.
            Some(("Anonymous" | "Swap", kilobytes)) => mapping = mapping.filter(|_| kilobytes.trim() == "0 kB"),
            // The last of what is told of a mapping.
            Some(("VmFlags", _)) => found.extend(mapping.take()),
            _ => mapping = code_of(line, files).or(mapping),
        }
    }
    found
}

/// Where a line of the kernel's table of mappings says that code or constants of one of these files lie, and how many bytes they have.
fn code_of(line: &str, files: &[&Path]) -> Option<(usize, usize)> {
    let mut fields = line.splitn(6, ' ');
    let (range, rights) = (fields.next()?, fields.next()?);
    // What is no file has no name there.
    let file = Path::new(fields.nth(3)?.trim_start());
    let (start, end) = range.split_once('-')?;
    let [start, end] = [start, end].map(|address| usize::from_str_radix(address, 16).ok());
    let bytes = end?.checked_sub(start?)?;
    (matches!(rights, "r-xp" | "r--p") && file.is_absolute() && files.contains(&file)).then_some((start?, bytes))
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
    use std::env;

    use super::*;

    #[test]
    fn the_kernel_tells() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(available_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert_eq!(of_machine("MemTotal: 24 kB\nMemAvailable:   12 kB\n"), Some(12 * 1024));
        assert_eq!(of_machine("MemTotal: 24 kB\n"), None);
    }

    #[test]
    fn code_is_what_nobody_can_write_of_the_files_that_are_asked_for() {
        let files = [Path::new("/bin/x y"), Path::new("/lib/a b.so"), Path::new("")];
        let line = |rights: &str, file: &str| format!("7f00-7f10 {rights} 00001000 08:01 42    {file}");
        for file in ["/bin/x y", "/lib/a b.so"] {
            for rights in ["r-xp", "r--p"] {
                assert_eq!(code_of(&line(rights, file), &files), Some((0x7f00, 0x10)), "{rights} {file}");
            }
        }
        for (rights, file) in
            [("rw-p", "/bin/x y"), ("rwxp", "/bin/x y"), ("r-xs", "/bin/x y"), ("r-xp", "/lib/libc.so.6"), ("r-xp", "")]
        {
            assert_eq!(code_of(&line(rights, file), &files), None, "{rights} {file}");
        }
        for torn in ["", "7f00", "7f00-7f10 r-xp", "7f10-7f00 r-xp 0 08:01 42 /bin/x y", "x-y r-xp 0 08:01 42 /bin/x y"] {
            assert_eq!(code_of(torn, &files), None, "{torn}");
        }
    }

    #[test]
    fn pages_that_were_written_are_not_given_back() {
        let mapping = |start: usize, rights: &str, anonymous: usize, swapped: usize| {
            let file = format!("{start:x}0-{start:x}8 {rights} 0 08:01 42 /bin/x");
            format!("{file}\nSize: 4 kB\nAnonymous:   {anonymous} kB\nSwap:     {swapped} kB\nVmFlags: rd mr me\n")
        };
        let maps: String = [(1, "r--p", 0, 0), (2, "r--p", 4, 0), (3, "r--p", 0, 4), (4, "rw-p", 0, 0), (5, "r-xp", 0, 0)]
            .map(|(start, rights, anonymous, swapped)| mapping(start, rights, anonymous, swapped))
            .concat();
        assert_eq!(unwritten(&maps, &[Path::new("/bin/x")]), [(0x10, 8), (0x50, 8)]);
    }

    #[test]
    fn code_that_was_given_back_runs_as_before() {
        let program = env::current_exe().unwrap();
        let resident = || {
            let maps = fs::read_to_string("/proc/self/smaps").unwrap();
            let mut lines = maps.lines().skip_while(|line| !line.contains("r-xp") || code_of(line, &[&program]).is_none());
            let rss = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
            rss.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
        };
        let before = resident();
        give_back_code(&[&program]);
        let after = resident();
        assert!(after < before, "{before} KB, {after} KB");
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
