//! `server.watch`: a reload when a file of the configuration changes.
//!
//! The kernel tells of what happens in the directories that matter (inotify(7)). What comes in quick succession is one change.
//! Whether it is one at all the files themselves say, and not the event: so a fault is told once, however often an
//! editor touches what is beside. Everything else is the reload's.

mod events;
mod trail;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, timeout};

use super::reload::{Requests, Wanted};
use crate::config::{self, Listings};
use crate::snapshot::Origin;
use events::{Event, events};
use trail::{Names, Places};

/// Nothing happens for so long: whoever writes is done. An editor takes milliseconds from the first step to the last.
const QUIET: Duration = Duration::from_millis(200);
/// What does not come to rest is read all the same after this.
const UNREST_MAX: Duration = Duration::from_secs(5);
/// New directories may show others to watch: links to links, directories in directories.
const LOOKS_MAX: usize = 8;

/// Applies the configuration again whenever a file of it changes; never ends by itself.
pub(super) async fn run(file: PathBuf, requests: Requests) {
    if let Err(error) = follow(&file, &requests).await {
        tracing::error!(%error, "the files of the configuration are watched no more");
    }
}

async fn follow(file: &Path, requests: &Requests) -> io::Result<()> {
    let mut watcher = Watcher::new()?;
    let mut seen = look(file, &mut watcher).await?.prints;
    tracing::info!(files = seen.len(), "watching the files of the configuration");
    loop {
        watcher.changed().await?;
        watcher.calm_down().await?;
        let now = look(file, &mut watcher).await?;
        if now.prints != seen {
            // Before it is read: what changes meanwhile is another change.
            seen = now.prints;
            // The log tells what came of it.
            let _ = requests.apply(Wanted::Watched(now.certificates), Origin::Watch).await;
        }
    }
}

/// What tells one version of a file from another; `None`: it is not there.
type Print = Option<(u64, u64, u64, [i64; 4])>;

/// The files at a moment.
struct Sight {
    prints: BTreeMap<PathBuf, Print>,
    /// Many are slow to find, so that a reload need not look for them again.
    certificates: Listings,
}

/// Looks at all files, and has what can change them watched.
async fn look(file: &Path, watcher: &mut Watcher) -> io::Result<Sight> {
    for look in 1.. {
        let file = file.to_path_buf();
        // A disk may be slow, and there may be thousands of files.
        let (places, sight) =
            tokio::task::spawn_blocking(move || survey(&file)).await.map_err(io::Error::other)?;
        // What changed after it was looked at and before it was watched is seen by another look.
        if !watcher.watch(&places) || look == LOOKS_MAX {
            return Ok(sight);
        }
    }
    unreachable!("the loop ends by itself")
}

fn survey(file: &Path) -> (Places, Sight) {
    let files = config::files(file);
    let mut places = Places::default();
    files.directories.iter().for_each(|directory| places.add_directory(directory));
    files.files.iter().for_each(|file| places.add_file(file));
    let print = |path: &PathBuf| {
        let metadata = path.metadata().ok()?;
        let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
        Some((metadata.dev(), metadata.ino(), metadata.size(), times))
    };
    let prints = files.files.iter().map(|path| (path.clone(), print(path))).collect();
    (places, Sight { prints, certificates: files.certificates })
}

/// The directories that the kernel tells of.
struct Watcher {
    /// A pipe in that bytes come out of it, which is all that is asked of one.
    inotify: Receiver,
    /// By the number of the watch.
    watched: HashMap<i32, Names>,
    /// That one cannot be watched is told once.
    has_complained: bool,
}

impl Watcher {
    fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let inotify = Receiver::from_owned_fd_unchecked(inotify)?;
        Ok(Self { inotify, watched: HashMap::new(), has_complained: false })
    }

    /// Watches these places from now on, and no others; says whether any of them is new.
    fn watch(&mut self, places: &Places) -> bool {
        let mut now: HashMap<i32, Names> = HashMap::new();
        for (directory, names) in places.iter() {
            // One that is watched already keeps its number, unless it was made anew.
            match inotify::add_watch(&self.inotify, directory, mask()) {
                Ok(number) => {
                    let before = now.remove(&number);
                    now.insert(number, before.map_or(names.clone(), |before| before.and(names.clone())));
                }
                // It went away meanwhile, which is told where it was.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                Err(error) => self.complain(directory, error),
            }
        }
        let is_new = now.iter().any(|(number, names)| self.watched.get(number) != Some(names));
        for number in self.watched.keys().filter(|number| !now.contains_key(number)) {
            // Of a directory that is gone the kernel has taken it away already.
            let _ = inotify::remove_watch(&self.inotify, *number);
        }
        self.watched = now;
        is_new
    }

    fn complain(&mut self, directory: &Path, error: rustix::io::Errno) {
        if !std::mem::replace(&mut self.has_complained, true) {
            tracing::warn!(directory = %directory.display(), %error, "changes of files here are not noticed");
        }
    }

    /// Waits until something happens that may matter.
    async fn changed(&self) -> io::Result<()> {
        // Room for many events with names of the longest kind.
        let mut buffer = [0; 4_096];
        loop {
            self.inotify.readable().await?;
            match self.inotify.try_read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) if events(&buffer[..length]).any(|event| self.matters(event)) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn matters(&self, event: Event<'_>) -> bool {
        // What the kernel could not keep may have mattered.
        event.is_overflow
            || self
                .watched
                .get(&event.watch)
                .is_some_and(|names| event.name.is_none_or(|name| names.has(name)))
    }

    /// Waits until nothing happens for a while.
    async fn calm_down(&self) -> io::Result<()> {
        let end = Instant::now() + UNREST_MAX;
        while Instant::now() < end {
            match timeout(QUIET, self.changed()).await {
                Ok(changed) => changed?,
                Err(_) => break,
            }
        }
        Ok(())
    }
}

/// What makes a file another one, or a directory.
fn mask() -> WatchFlags {
    WatchFlags::ONLYDIR
        | WatchFlags::CREATE
        | WatchFlags::MODIFY
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::ATTRIB
        | WatchFlags::DELETE
        | WatchFlags::MOVE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
}
