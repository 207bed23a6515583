//! The limit of open descriptors, raised for tests that hold thousands of connections.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of this process, and of those it starts, to the hard one. Returns the limit.
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Cannot fail for a soft limit at the hard one; where it does, the test meets the old limit and says so.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
