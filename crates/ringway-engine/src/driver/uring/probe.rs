//! What the driver needs of the kernel, asked for feature by feature.

use std::io;

use io_uring::{Probe, opcode};

use super::buffers::BufferRing;
use super::poller;

/// Whether io_uring can carry an engine here; if not, why.
pub(crate) fn probe() -> Result<(), String> {
    let ring = poller::open().map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            format!("io_uring is forbidden here, by seccomp or kernel.io_uring_disabled ({error})")
        }
        Some(libc::ENOSYS) => "the kernel has no io_uring, or seccomp hides it".to_owned(),
        Some(libc::ENOMEM) => format!("no memory for a ring: raise RLIMIT_MEMLOCK ({error})"),
        _ => format!("io_uring cannot be set up: {error}"),
    })?;
    let params = ring.params();
    for (name, present, since) in [
        ("no-drop completions", params.is_feature_nodrop(), "5.5"),
        ("wait with a time limit", params.is_feature_ext_arg(), "5.11"),
        ("skipping completions", params.is_feature_skip_cqe_on_success(), "5.17"),
    ] {
        if !present {
            return Err(format!("the kernel's io_uring lacks {name} (Linux {since})"));
        }
    }
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| format!("io_uring cannot be probed: {error}"))?;
    for (name, code) in [
        ("accept", opcode::Accept::CODE),
        ("receive", opcode::Recv::CODE),
        ("poll", opcode::PollAdd::CODE),
        ("cancel", opcode::AsyncCancel::CODE),
        ("close", opcode::Close::CODE),
        // Came with multishot receive (Linux 6.0), which no probe tells of.
        ("zero-copy send, the mark of Linux 6.0", opcode::SendZc::CODE),
    ] {
        if !probe.is_supported(code) {
            return Err(format!("the kernel's io_uring lacks {name}"));
        }
    }
    let buffers =
        BufferRing::register(&ring).map_err(|error: io::Error| format!("no buffer ring: {error}"))?;
    drop(ring);
    drop(buffers);
    Ok(())
}
