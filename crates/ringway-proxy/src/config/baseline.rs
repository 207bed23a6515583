//! A file that was read before: what it said, so that reading it again costs as much as what has changed.
//!
//! Of a file of thousands of apps a reload changes one or two. The text is compared with that of before; what differs
//! reaches from one app to another, and only these are [parsed and checked](super::check::of_part). It is a short cut for
//! what is right: where anything is not, the file is read as if for the first time, so that faults and their places are
//! those of the whole.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::Loaded;
use super::check::{self, Part};
use super::tree::substitute::Environment;
use crate::model::{Admin, App, Config, Server};

/// A file as it was read, without its apps.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    text: String,
    /// Where each app begins.
    starts: Vec<usize>,
    server: Server,
    admin: Option<Admin>,
}

impl Outline {
    /// Of what was read; none if such a file cannot be read in parts: where it is not TOML, or names other files.
    pub fn of(loaded: &Loaded) -> Option<Self> {
        let starts = loaded.starts.clone()?;
        // A byte order mark is no part of the text that places count in.
        if loaded.text.starts_with('\u{feff}') {
            return None;
        }
        let Config { server, admin, .. } = &loaded.config;
        Some(Self { text: loaded.text.clone(), starts, server: server.clone(), admin: admin.clone() })
    }
}

/// A file as it was read.
#[derive(Debug)]
pub struct Baseline {
    outline: Outline,
    apps: Vec<Arc<App>>,
}

impl Baseline {
    /// `apps`: those of the outline, in their order. None if they are not.
    pub fn new(outline: Outline, apps: Vec<Arc<App>>) -> Option<Self> {
        (outline.starts.len() == apps.len()).then_some(Self { outline, apps })
    }

    /// What another text of the file says, and where each app begins in it; none if all of it must be read.
    pub(super) fn read(
        &self,
        text: &str,
        path: &Path,
        base_dir: &Path,
        environment: &Environment<'_>,
    ) -> Option<(Config, Vec<usize>)> {
        let Outline { text: old, starts, server, admin } = &self.outline;
        let change = Change::between(old, text, starts)?;
        let is_apps = change.start == change.end || text.get(change.start..)?.starts_with(check::APP);
        // A table of another kind that stood among them may be gone.
        let replaced = change.replaced(starts, old.len());
        if !is_apps || !old.get(replaced).is_some_and(check::has_only_apps) {
            return None;
        }
        let part = Part {
            path,
            base_dir,
            text: text.get(change.start..change.end)?,
            before: &self.apps[..change.first],
            after: &self.apps[change.last..],
            admin: admin.as_ref().map(|admin| &admin.listen),
        };
        let (apps, within) = check::of_part(&part, environment)?;
        let moved = |start: &usize| start + text.len() - old.len();
        let mut all = starts[..change.first].to_vec();
        all.extend(within.iter().map(|start| change.start + start));
        all.extend(starts[change.last..].iter().map(moved));
        Some((Config { server: server.clone(), admin: admin.clone(), apps, demo: false }, all))
    }
}

/// What differs between two texts, widened to whole apps.
#[derive(Debug, PartialEq)]
struct Change {
    /// In the new text.
    start: usize,
    end: usize,
    /// The apps of the old text that are in the place of it: from this one up to that.
    first: usize,
    last: usize,
}

impl Change {
    /// What it takes the place of in the old text.
    fn replaced(&self, starts: &[usize], old_len: usize) -> Range<usize> {
        let place_of = |app: usize| starts.get(app).copied().unwrap_or(old_len);
        place_of(self.first)..place_of(self.last)
    }

    /// None if what differs begins before the first app.
    fn between(old: &str, new: &str, starts: &[usize]) -> Option<Self> {
        let (old, new) = (old.as_bytes(), new.as_bytes());
        let shorter = old.len().min(new.len());
        let same = |(a, b): &(&u8, &u8)| a == b;
        let prefix = old.iter().zip(new).take_while(same).count();
        if prefix == old.len().max(new.len()) {
            let (end, count) = (new.len(), starts.len());
            return Some(Self { start: end, end, first: count, last: count });
        }
        let rest = shorter - prefix;
        let suffix = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(same).count();
        let first = starts.partition_point(|start| *start <= prefix).checked_sub(1)?;
        let start = starts[first];
        // The first app from which on nothing differs, and that stands on a line of its own in the new text, too.
        let mut last = starts.partition_point(|start| *start < old.len() - suffix);
        if last <= first {
            last = first + 1;
        }
        let end_of = |last: usize| match starts.get(last) {
            Some(old_end) => new.len() - (old.len() - old_end),
            None => new.len(),
        };
        let end = end_of(last);
        let is_apart = end == start || end == new.len() || end > start && new[end - 1] == b'\n';
        is_apart.then_some(Self { start, end, first, last })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tree::source::Source;
    use super::super::{Format, Fragments, Known};
    use super::*;

    const TEXT: &str = "# A comment.\n[server]\nworkers = 2\n\n\
        [[app]]\nname = \"a\"\nlisten = [\"127.0.0.1:1\"]\nbackends = [\"10.0.0.1:1\"]\n[app.health]\ncheck = \"none\"\n\n\
        # Another.\n[[app]] # b\n# comment\nname = \"b\"\nlisten = [\n  \"127.0.0.1:2\",\n]\nbackends = [\"10.0.0.1:1\"]\n\
        [[app]]\nname = '''c'''\nlisten = [\"127.0.0.1:3\"]\nbackends = [{ address = \"b:1\", weight = 2 }]\n\
        [[app]]\nname = \"d\"\nlisten = [\"127.0.0.1:4\"]\nbackends = [\"10.0.0.1:1\"]\n[app.limits]\nconnections = 4\n\n\
        [admin]\nlisten = \"127.0.0.1:9\"\n";

    fn whole(text: &str) -> Option<(Config, Option<Vec<usize>>)> {
        let source = Source::new(None, text);
        let context = check::Context {
            base_dir: Path::new("/"),
            environment: &|_| None,
            known: &Known::default(),
            verified_at: None,
        };
        let checked = check::check(source, Format::Toml, Fragments::Files, &context).ok()?;
        Some((checked.config, checked.starts))
    }

    fn baseline() -> Baseline {
        let (config, starts) = whole(TEXT).expect("it is good");
        let (text, starts) = (TEXT.to_owned(), starts.expect("it can be taken apart"));
        let outline = Outline { text, starts, server: config.server, admin: config.admin };
        let apps = config.apps.into_iter().map(Arc::new).collect();
        Baseline::new(outline, apps).expect("they belong together")
    }

    fn again(text: &str) -> Option<(Config, Option<Vec<usize>>)> {
        let read = baseline().read(text, Path::new("/x.toml"), Path::new("/"), &|_| None);
        read.map(|(config, starts)| (config, Some(starts)))
    }

    #[test]
    fn changed_apps_are_read_alone_and_mean_what_they_mean_in_the_whole() {
        let new = "[[app]]\nname = \"n\"\nlisten = [\"127.0.0.1:7\"]\nbackends = [\"10.0.0.1:1\"]\n";
        let second = TEXT.find("[[app]] # b").expect("it is there");
        let third = TEXT.find("[[app]]\nname = '''c").expect("it is there");
        for text in [
            TEXT.to_owned(),
            TEXT.replace("weight = 2", "weight = 3"),
            TEXT.replace("127.0.0.1:2", "127.0.0.1:22"),
            TEXT.replace("name = \"a\"", "name = \"aa\"").replace("name = '''c'''", "name = \"cc\""),
            TEXT.replace("127.0.0.1:1", "127.0.0.1:8").replace("weight = 2", "weight = 1"),
            format!("{}{new}{}", &TEXT[..second], &TEXT[second..]),
            format!("{}{}", &TEXT[..second], &TEXT[third..]),
            TEXT.replace("# Another.", "# A third comment.\n"),
        ] {
            assert_eq!(again(&text), whole(&text), "{text}");
            assert!(again(&text).is_some(), "{text}");
        }
    }

    #[test]
    fn whatever_is_not_right_is_left_to_the_whole() {
        for (old, new) in [
            ("workers = 2", "workers = 3"),
            ("127.0.0.1:2", "127.0.0.1:1"),
            ("127.0.0.1:2", "127.0.0.1:9"),
            ("name = \"b\"", "name = \"a\""),
            ("name = \"b\"", "name = \"b\"\nnmae = 1"),
            ("name = \"b\"", "name = \"\"\"b"),
            ("connections = 4", "connections = 0"),
            ("check = \"none\"\n", "check = \"none\"\nfall = 0\n"),
            ("127.0.0.1:9", "127.0.0.1:10"),
            ("\n[admin]\nlisten = \"127.0.0.1:9\"\n", ""),
            ("4\n\n[admin]\n", "4#"),
            ("[[app]] # b", "[server]\n[[app]] # b"),
            ("[[app]] # b", "[[ app ]]"),
        ] {
            assert_eq!(again(&TEXT.replace(old, new)), None, "{new}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn part_means_what_the_whole_means(
            edits in prop::collection::vec(
                (any::<prop::sample::Index>(), 0..60_usize, prop::sample::select(vec![
                    "", "\n", "[[app]]\n", "[[app]]", "\"", "\"\"\"", "'''", "#", "]", "[", "x", "5", "name = \"e\"\n",
                    "listen = [\"127.0.0.1:5\"]\n", "backends = [\"10.0.0.1:1\"]\n", "[server]\n", "[app.limits]\n",
                    "[[app]]\nname = \"e\"\nlisten = [\"127.0.0.1:5\"]\nbackends = [\"10.0.0.1:1\"]\n", "app.x = 1\n", "\r\n",
                ])),
                1..4,
            )
        ) {
            let mut text = TEXT.to_owned();
            for (at, length, inserted) in edits {
                let start = at.index(text.len() + 1);
                // Short cuts more often leave something good.
                let end = text.len().min(start + length.saturating_sub(40));
                text.replace_range(start..end, inserted);
            }
            if let Some(read) = again(&text) {
                prop_assert_eq!(Some(read), whole(&text), "{}", text);
            }
        }
    }
}
