//! Another user for the process: who that is, and becoming it for good.

use std::ffi::{CStr, CString};
use std::io;

use libc::{gid_t, uid_t};

/// Longest record of the user database that is read; those of glibc's tools have a few hundred bytes.
const RECORD_BYTES_MAX: usize = 64 * 1024;
/// Groups of one user that are asked for, at most: the limit of the kernel (NGROUPS_MAX).
const GROUPS_MAX: usize = 65_536;

/// A user and its groups, as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    uid: uid_t,
    gid: gid_t,
    groups: Vec<gid_t>,
}

impl Identity {
    /// The user of this name or number. Its group is `group`, by name or number, or its own; its other groups are those
    /// that the system's database has for it.
    ///
    /// # Errors
    /// `NotFound`, in words, when there is no such user or group; what the database says when it cannot be asked.
    pub fn find(user: &str, group: Option<&str>) -> io::Result<Self> {
        let missing = |what: String| io::Error::new(io::ErrorKind::NotFound, what);
        let record = find_user(user)?;
        let uid = match (&record, user.parse()) {
            (Some(record), _) => record.uid,
            (None, Ok(uid)) => uid,
            (None, Err(_)) => return Err(missing(format!("there is no user {user:?}"))),
        };
        let gid = match (group, &record) {
            (Some(group), _) => match (find_group(group)?, group.parse()) {
                (Some(gid), _) | (None, Ok(gid)) => gid,
                (None, Err(_)) => return Err(missing(format!("there is no group {group:?}"))),
            },
            (None, Some(record)) => record.gid,
            (None, None) => return Err(missing(format!("user {user} has no group of its own; name one"))),
        };
        let groups = record.map_or(Ok(vec![gid]), |record| groups_of(&record.name, gid))?;
        Ok(Self { uid, gid, groups })
    }

    /// Whether the process is that user already, and nothing else.
    pub fn is_current(&self) -> bool {
        identity() == ([self.uid; 3], [self.gid; 3])
    }

    /// Becomes that user: all threads of the process, for good. Capabilities go with root, limits stay, and the process
    /// may be looked at and dumped as before.
    ///
    /// # Errors
    /// `PermissionDenied` when the process may not, and when it could come back: its privileges are then not gone.
    pub fn assume(&self) -> io::Result<()> {
        // SAFETY: no pointers.
        let dumpable = check(unsafe { libc::prctl(libc::PR_GET_DUMPABLE) })?;
        // The C library's functions and not the system calls: a call changes one thread, they change all.
        let groups = self.groups.as_ptr();
        // SAFETY: `groups` is valid for as many entries as are announced.
        check(unsafe { libc::setgroups(self.groups.len(), groups) })?;
        // SAFETY: no pointers.
        check(unsafe { libc::setresgid(self.gid, self.gid, self.gid) })?;
        // SAFETY: no pointers.
        check(unsafe { libc::setresuid(self.uid, self.uid, self.uid) })?;
        // The kernel takes that away with a change of user or group: /proc/self would be root's. 2 cannot be asked for.
        if dumpable == 1 {
            // SAFETY: no pointers.
            check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) })?;
        }
        self.verify()
    }

    fn verify(&self) -> io::Result<()> {
        let kept = |what| Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        if !self.is_current() {
            return kept("the process is not who it should be");
        }
        // SAFETY: no pointers.
        if self.uid != 0 && unsafe { libc::setuid(0) } == 0 {
            return kept("the process could become root again");
        }
        // SAFETY: no pointers.
        if self.uid != 0 && self.gid != 0 && unsafe { libc::setgid(0) } == 0 {
            return kept("the process could have the group of root again");
        }
        Ok(())
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// User and group: real, effective and saved.
fn identity() -> ([uid_t; 3], [gid_t; 3]) {
    let (mut users, mut groups) = ([uid_t::MAX; 3], [gid_t::MAX; 3]);
    let [real, effective, saved] = &mut users;
    // SAFETY: three numbers for the kernel to fill; it fails for bad pointers only.
    unsafe { libc::getresuid(real, effective, saved) };
    let [real, effective, saved] = &mut groups;
    // SAFETY: the same.
    unsafe { libc::getresgid(real, effective, saved) };
    (users, groups)
}

struct User {
    uid: uid_t,
    gid: gid_t,
    name: CString,
}

/// The record of a user by name, else by number.
fn find_user(user: &str) -> io::Result<Option<User>> {
    let name = CString::new(user)?;
    let by_name = record(
        |entry, buffer, length, found| {
            // SAFETY: `name` ends in a zero, `entry` and `found` are valid for writes, `buffer` for `length` bytes.
            unsafe { libc::getpwnam_r(name.as_ptr(), entry, buffer, length, found) }
        },
        user_of,
    )?;
    match (by_name, user.parse::<uid_t>()) {
        (None, Ok(uid)) => record(
            |entry, buffer, length, found| {
                // SAFETY: `entry` and `found` are valid for writes, `buffer` for `length` bytes.
                unsafe { libc::getpwuid_r(uid, entry, buffer, length, found) }
            },
            user_of,
        ),
        (found, _) => Ok(found),
    }
}

fn user_of(entry: &libc::passwd) -> User {
    // SAFETY: the database filled the record: its name is a string that ends in a zero, in the buffer that lives still.
    let name = unsafe { CStr::from_ptr(entry.pw_name) };
    User { uid: entry.pw_uid, gid: entry.pw_gid, name: name.to_owned() }
}

fn find_group(group: &str) -> io::Result<Option<gid_t>> {
    let name = CString::new(group)?;
    record(
        |entry: *mut libc::group, buffer, length, found| {
            // SAFETY: `name` ends in a zero, `entry` and `found` are valid for writes, `buffer` for `length` bytes.
            unsafe { libc::getgrnam_r(name.as_ptr(), entry, buffer, length, found) }
        },
        |entry| entry.gr_gid,
    )
}

/// Asks the database by `ask`, with a buffer that grows until the record fits, and reads it while the buffer lives.
fn record<R, T>(
    ask: impl Fn(*mut R, *mut libc::c_char, usize, *mut *mut R) -> libc::c_int,
    read: impl FnOnce(&R) -> T,
) -> io::Result<Option<T>> {
    let mut buffer: Vec<libc::c_char> = vec![0; 1_024];
    loop {
        let mut entry = std::mem::MaybeUninit::<R>::uninit();
        let mut found: *mut R = std::ptr::null_mut();
        match ask(entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &mut found) {
            0 if found.is_null() => return Ok(None),
            // SAFETY: the call succeeded and found a record: it has filled `entry`, which `found` points to.
            0 => return Ok(Some(read(unsafe { entry.assume_init_ref() }))),
            libc::ERANGE if buffer.len() < RECORD_BYTES_MAX => buffer.resize(buffer.len() * 4, 0),
            libc::EINTR => {}
            // What some databases say of a name that they do not have.
            libc::ENOENT | libc::ESRCH => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// The groups of a user, `gid` among them.
fn groups_of(user: &CStr, gid: gid_t) -> io::Result<Vec<gid_t>> {
    let mut groups: Vec<gid_t> = vec![0; 64];
    loop {
        let mut count = groups.len() as libc::c_int;
        // SAFETY: `user` ends in a zero, and `groups` is valid for `count` entries.
        let result = unsafe { libc::getgrouplist(user.as_ptr(), gid, groups.as_mut_ptr(), &mut count) };
        if result >= 0 {
            groups.truncate(count.max(0) as usize);
            return Ok(groups);
        }
        if groups.len() >= GROUPS_MAX {
            return Err(io::Error::other("a user in more groups than the kernel allows"));
        }
        groups.resize(groups.len() * 4, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_and_by_number() {
        let root = Identity::find("root", None).expect("every system has it");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert_eq!(Identity::find("0", None).expect("the same").uid, 0);
        let other = Identity::find("4000000", Some("4000001")).expect("a number needs no name");
        assert_eq!((other.uid, other.gid, other.groups), (4_000_000, 4_000_001, vec![4_000_001]));
    }

    #[test]
    fn whoever_is_not_there_is_named() {
        let error = |user, group| Identity::find(user, group).expect_err("nobody").to_string();
        assert_eq!(error("no-such-user", None), "there is no user \"no-such-user\"");
        assert_eq!(error("root", Some("no-such-group")), "there is no group \"no-such-group\"");
        assert_eq!(error("4000000", None), "user 4000000 has no group of its own; name one");
    }

    #[test]
    fn process_is_who_it_is() {
        let ([uid, ..], [gid, ..]) = identity();
        assert!(Identity { uid, gid, groups: Vec::new() }.is_current());
        assert!(!Identity { uid: uid + 1, gid, groups: Vec::new() }.is_current());
    }
}
