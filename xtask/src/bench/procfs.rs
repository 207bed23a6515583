//! What the kernel tells under `/proc`: family trees, memory of processes, memory of the kernel itself.

use std::fs;
use std::io;

/// A process and all below it.
pub(super) fn family(root: u32) -> io::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // It may be gone by now.
        if let Some(parent) =
            fs::read_to_string(format!("/proc/{pid}/stat")).ok().as_deref().and_then(parent_of)
        {
            parents.push((pid, parent));
        }
    }
    Ok(descend(root, &parents))
}

fn descend(root: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        next += 1;
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
    }
    family
}

/// The fourth field of `/proc/PID/stat`; the second, a name in parentheses, may hold anything.
fn parent_of(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Anonymous resident memory of the processes together, in bytes.
pub(super) fn anonymous_bytes(pids: &[u32]) -> io::Result<u64> {
    let mut sum = 0;
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        sum += kilobytes(&status, "RssAnon:").unwrap_or(0) * 1024;
    }
    Ok(sum)
}

/// Memory of the kernel, of the whole machine, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KernelMemory {
    pub(super) slab: u64,
    pub(super) socket_buffers: u64,
}

impl KernelMemory {
    pub(super) fn now() -> io::Result<Self> {
        let slab = kilobytes(&fs::read_to_string("/proc/meminfo")?, "Slab:").unwrap_or(0) * 1024;
        let pages = tcp_pages(&fs::read_to_string("/proc/net/sockstat")?).unwrap_or(0);
        Ok(Self { slab, socket_buffers: pages * rustix::param::page_size() as u64 })
    }
}

/// `KEY   123 kB` of `/proc/meminfo` and `/proc/PID/status`.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// `TCP: inuse 5 orphan 0 tw 0 alloc 9 mem 3` of `/proc/net/sockstat`.
fn tcp_pages(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

/// Model of the processor, kernel release and memory, in a line.
pub(super) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field("model name").unwrap_or_else(|| "unknown processor".into());
    let count = info.lines().filter(|line| line.starts_with("processor")).count();
    let memory = kilobytes(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) >> 20;
    let kernel = read("/proc/sys/kernel/osrelease");
    let congestion = read("/proc/sys/net/ipv4/tcp_congestion_control");
    format!(
        "{count} × {model}, {memory} GiB, Linux {}, congestion control {}",
        kernel.trim(),
        congestion.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_hide_the_parent() {
        assert_eq!(parent_of("12 (a) b (c) S 7 12 12 0"), Some(7));
        assert_eq!(parent_of("garbage"), None);
    }

    #[test]
    fn a_family_holds_children_of_children() {
        let mut family = descend(1, &[(2, 1), (3, 2), (4, 9)]);
        family.sort_unstable();
        assert_eq!(family, [1, 2, 3]);
    }

    #[test]
    fn fields_are_read_from_their_lines() {
        assert_eq!(kilobytes("Name:\tx\nRssAnon:\t  42 kB\n", "RssAnon:"), Some(42));
        assert_eq!(kilobytes("", "RssAnon:"), None);
        let sockstat = "sockets: used 9\nTCP: inuse 5 orphan 0 tw 0 alloc 9 mem 3\nUDP: inuse 0 mem 7\n";
        assert_eq!(tcp_pages(sockstat), Some(3));
    }
}
