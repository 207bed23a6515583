//! Which certificates are for a host: by its name, or by that of its domain with a `*` before it.

use std::collections::HashMap;
use std::sync::Arc;

use ringway_proto::host_name::HostName;

/// Numbers of certificates by name. Of several for one name the one that was added first comes first.
#[derive(Debug, Default)]
pub(super) struct NameIndex {
    exact: HashMap<Arc<str>, Numbers>,
    /// Without the `*.` before it.
    below: HashMap<Box<str>, Numbers>,
}

/// At least one; most often only one.
#[derive(Debug)]
struct Numbers {
    first: u32,
    others: Vec<u32>,
}

impl Numbers {
    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }

    fn add(&mut self, number: u32) {
        if self.first != number && self.others.last() != Some(&number) {
            self.others.push(number);
        }
    }
}

/// A name in the form in which it is looked up: in lower case, without a trailing dot. None if no host can have it.
pub(super) fn canonical(name: &str) -> Option<String> {
    let (prefix, host) = match name.strip_prefix("*.") {
        Some(rest) => ("*.", rest),
        None => ("", name),
    };
    let host = HostName::new(host.as_bytes()).ok()?;
    Some(format!("{prefix}{}", &*host))
}

impl NameIndex {
    pub(super) fn with_capacity(names: usize) -> Self {
        Self { exact: HashMap::with_capacity(names), below: HashMap::new() }
    }

    /// Adds a certificate for a [canonical] name. Numbers are added in their order.
    pub(super) fn add(&mut self, name: &Arc<str>, number: u32) {
        let new = || Numbers { first: number, others: Vec::new() };
        let numbers = match name.strip_prefix("*.") {
            Some(rest) if self.below.contains_key(rest) => self.below.get_mut(rest),
            Some(rest) => Some(self.below.entry(rest.into()).or_insert_with(new)),
            None => Some(self.exact.entry(Arc::clone(name)).or_insert_with(new)),
        };
        if let Some(numbers) = numbers {
            numbers.add(number);
        }
    }

    /// The certificates for a host, in lower case: those of its own name first. A `*` stands for one label (RFC 6125,
    /// section 6.4.3).
    pub(super) fn find<'a>(&'a self, host: &str) -> impl Iterator<Item = u32> + use<'a> {
        let below = host.split_once('.').and_then(|(_, rest)| self.below.get(rest));
        let exact = self.exact.get(host);
        exact.into_iter().chain(below).flat_map(Numbers::iter)
    }

    /// The certificates that have just this [canonical] name.
    pub(super) fn with_name<'a>(&'a self, name: &str) -> impl Iterator<Item = u32> + use<'a> {
        let numbers = match name.strip_prefix("*.") {
            Some(rest) => self.below.get(rest),
            None => self.exact.get(name),
        };
        numbers.into_iter().flat_map(Numbers::iter)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index(names: &[&[&str]]) -> NameIndex {
        let mut index = NameIndex::default();
        for (number, names) in (0..).zip(names) {
            for name in *names {
                index.add(&Arc::from(canonical(name).expect("it is a name")), number);
            }
        }
        index
    }

    fn find(index: &NameIndex, host: &str) -> Vec<u32> {
        index.find(host).collect()
    }

    #[test]
    fn a_star_stands_for_one_label() {
        let index = index(&[&["example.com", "*.example.com"], &["www.example.com"], &["*.b.example.com"]]);
        assert_eq!(find(&index, "example.com"), [0]);
        assert_eq!(find(&index, "a.example.com"), [0]);
        assert_eq!(find(&index, "www.example.com"), [1, 0], "its own name first");
        assert_eq!(find(&index, "a.b.example.com"), [2]);
        assert_eq!(find(&index, "b.example.com"), [0]);
        assert_eq!(find(&index, "x.a.example.com"), []);
        assert_eq!(find(&index, "com"), []);
        assert_eq!(find(&index, ""), []);
    }

    #[test]
    fn of_several_for_one_name_the_first_comes_first() {
        let index = index(&[&["a.com", "A.com."], &["a.com"], &["b.com"], &["a.com", "*.com", "*.com"]]);
        assert_eq!(find(&index, "a.com"), [0, 1, 3, 3]);
        assert_eq!(index.with_name("*.com").collect::<Vec<_>>(), [3]);
        assert_eq!(index.with_name("a.com").collect::<Vec<_>>(), [0, 1, 3]);
    }

    #[test]
    fn names_that_no_host_has_are_left_out() {
        for name in ["", "*", "*.", "*.*.com", "a.*.com", "w*.com", "192.0.2.1", "a b.com", "-.é"] {
            assert_eq!(canonical(name), None, "{name:?}");
        }
        assert_eq!(canonical("*.EXAMPLE.com.").as_deref(), Some("*.example.com"));
    }

    /// What [`NameIndex::find`] is to give, from one certificate to the next.
    fn by_looking_at_all(certificates: &[Vec<String>], host: &str) -> Vec<u32> {
        let is_exact = |name: &String| name == host;
        let is_below = |name: &String| match (name.strip_prefix("*."), host.split_once('.')) {
            (Some(domain), Some((_, rest))) => domain == rest,
            _ => false,
        };
        let with = |holds: &dyn Fn(&String) -> bool| -> Vec<u32> {
            (0..)
                .zip(certificates)
                .filter(|(_, names)| names.iter().any(holds))
                .map(|(number, _)| number)
                .collect()
        };
        [with(&is_exact), with(&is_below)].concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_index_finds_what_looking_at_all_finds(
            certificates in prop::collection::vec(
                prop::collection::vec("(\\*\\.)?([ab]\\.){0,3}[ab]", 0..4), 0..12),
            hosts in prop::collection::vec("([ab]\\.){0,3}[ab]", 1..12),
        ) {
            let mut index = NameIndex::with_capacity(4);
            for (number, names) in (0..).zip(&certificates) {
                for name in names {
                    index.add(&Arc::from(name.as_str()), number);
                }
            }
            for host in hosts {
                prop_assert_eq!(find(&index, &host), by_looking_at_all(&certificates, &host), "{}", host);
            }
        }
    }
}
