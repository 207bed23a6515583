//! What inotify(7) tells, event by event, out of the bytes that a read gave.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// `struct inotify_event` without its name: watch, mask, cookie, length of the name.
const HEAD_BYTES: usize = 16;
/// Of the kernel's `IN_Q_OVERFLOW`: there was more than it kept.
const OVERFLOW: u32 = 0x4000;

/// Something that happened in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event<'a> {
    /// Number of the watch.
    pub(super) watch: i32,
    /// What it happened to; `None`: to the directory itself.
    pub(super) name: Option<&'a OsStr>,
    /// There was more than the kernel kept, anywhere.
    pub(super) is_overflow: bool,
}

/// The events of one read, which are whole.
pub(super) fn events(mut bytes: &[u8]) -> impl Iterator<Item = Event<'_>> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
        let word = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
        let (name, rest) = rest.split_at_checked(u32::from_ne_bytes(word(12)) as usize)?;
        bytes = rest;
        // It is filled up with zeros.
        let name = name.split(|byte| *byte == 0).next().filter(|name| !name.is_empty());
        Some(Event {
            watch: i32::from_ne_bytes(word(0)),
            name: name.map(OsStr::from_bytes),
            is_overflow: u32::from_ne_bytes(word(4)) & OVERFLOW != 0,
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(watch: i32, mask: u32, name: &[u8]) -> Vec<u8> {
        let mut bytes = watch.to_ne_bytes().to_vec();
        for word in [mask, 0, name.len() as u32] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(name);
        bytes
    }

    #[test]
    fn events_follow_each_other_with_their_names() {
        let bytes =
            [written(3, 2, b"a.toml\0\0"), written(-1, OVERFLOW, b""), written(4, 0x400, b"")].concat();
        let all: Vec<Event<'_>> = events(&bytes).collect();
        let event = |watch, name: Option<&'static str>, is_overflow| Event {
            watch,
            name: name.map(OsStr::new),
            is_overflow,
        };
        assert_eq!(all, [event(3, Some("a.toml"), false), event(-1, None, true), event(4, None, false)]);
    }

    proptest! {
        #[test]
        fn whatever_is_read_has_an_end(bytes: Vec<u8>) {
            prop_assert!(events(&bytes).count() <= bytes.len() / HEAD_BYTES);
        }
    }
}
