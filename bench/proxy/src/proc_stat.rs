//! CPU time and resident memory of a process and all its descendants, from `/proc`.

use std::fs;

/// CPU time in ticks (see [`crate::sys::ticks_per_second`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CpuTicks {
    /// Time in user mode.
    pub(crate) user: u64,
    /// Time in the kernel on behalf of the process.
    pub(crate) system: u64,
}

/// The fields of `/proc/PID/stat` that we read (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    cpu: CpuTicks,
}

/// Reads one `/proc/PID/stat`. The name in parentheses may itself hold spaces and parentheses.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    // After the name: state (3), ppid (4), … utime (14), stime (15).
    let parent = fields.nth(1)?.parse().ok()?;
    let user = fields.nth(9)?.parse().ok()?;
    let system = fields.next()?.parse().ok()?;
    Some(Stat { parent, cpu: CpuTicks { user, system } })
}

/// A process and its descendants, all threads included.
#[derive(Debug, Clone)]
pub(crate) struct ProcessTree {
    pids: Vec<u32>,
}

impl ProcessTree {
    /// The tree as it is now; processes started later are not part of it.
    pub(crate) fn of(root: u32) -> Self {
        let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, read_stat(pid)?.parent)))
            .collect();
        Self { pids: descendants(root, &parents) }
    }

    /// CPU time of all of them since each began; `None` when one has ended.
    pub(crate) fn cpu(&self) -> Option<CpuTicks> {
        let mut sum = CpuTicks::default();
        for &pid in &self.pids {
            let stat = read_stat(pid)?;
            sum.user += stat.cpu.user;
            sum.system += stat.cpu.system;
        }
        Some(sum)
    }

    /// Resident memory of all of them, bytes; `None` when one has ended.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let mut sum = 0;
        for pid in &self.pids {
            sum += parse_resident(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)?;
        }
        Some(sum)
    }
}

fn read_stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `root` and all below it, given (process, parent) pairs in any order.
fn descendants(root: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        for &(pid, its_parent) in parents {
            if its_parent == parent && !found.contains(&pid) {
                found.push(pid);
            }
        }
        next += 1;
    }
    found
}

/// `VmRSS` of a `/proc/PID/status`, bytes.
fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_a_hostile_name() {
        let text = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 2 3 4 123 456 9 9 20 0 1 0 5 6 7";
        let expected = Stat { parent: 7, cpu: CpuTicks { user: 123, system: 456 } };
        assert_eq!(parse_stat(text), Some(expected));
        assert_eq!(parse_stat("42 (x) S 7 42"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn our_own_stat_and_memory_are_read() {
        let tree = ProcessTree::of(std::process::id());
        assert!(tree.cpu().is_some());
        assert!(tree.resident_bytes().expect("we are alive") > 4096);
    }

    #[test]
    fn a_process_that_never_was_has_no_figures() {
        let tree = ProcessTree::of(u32::MAX);
        assert_eq!(tree.cpu(), None);
        assert_eq!(tree.resident_bytes(), None);
    }

    #[test]
    fn descendants_are_found_in_any_order() {
        let parents = [(5, 4), (4, 2), (3, 2), (9, 1), (2, 1)];
        let mut found = descendants(2, &parents);
        found.sort_unstable();
        assert_eq!(found, [2, 3, 4, 5]);
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(parse_resident("Name:\tx\nVmRSS:\t   12 kB\nX:\t1\n"), Some(12 * 1024));
        assert_eq!(parse_resident("Name:\tx\n"), None);
    }
}
