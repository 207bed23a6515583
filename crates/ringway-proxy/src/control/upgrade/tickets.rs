//! The keys of session tickets that a process has made, for the one that follows it: so that clients who come again need not
//! make a full handshake each after an upgrade.
//!
//! They go by the name of their app, on the channel between the two and nowhere else, and come with their ages. Those that
//! stand in files are not told: the other process reads the file. What tickets are bound to is not told either: the other process
//! has its own terms, and a ticket that was issued under others opens nothing there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ringway::tls::MadeKey;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::snapshot::Snapshot;

/// Room for what stands about the apps, about a name and its keys, and for a key.
const MESSAGE_BYTES: usize = 16;
const APP_BYTES: usize = 32;
const KEY_BYTES: usize = 128;

/// Keys of session tickets, of each app the one that seals first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Message", into = "Message")]
pub struct Tickets {
    apps: Vec<(Arc<str>, Vec<MadeKey>)>,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
struct Message {
    #[serde(default)]
    apps: Vec<AppRecord>,
}

#[derive(Serialize, Deserialize)]
struct AppRecord {
    #[serde(default)]
    name: String,
    #[serde(default)]
    keys: Vec<KeyRecord>,
}

#[derive(Serialize, Deserialize)]
struct KeyRecord {
    /// The second since which it seals, counted from the beginning of 1970.
    #[serde(default)]
    since: u64,
    /// In hexadecimal digits.
    #[serde(default)]
    key: Digits,
}

/// Written and read as text, shown by nothing, and overwritten in memory when dropped.
#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Digits(String);

impl Drop for Digits {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digits(..)")
    }
}

impl Tickets {
    /// Of a process that runs by this snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        let apps = snapshot.apps().map(|app| (Arc::clone(app.name()), app.ticket_keys()));
        Self { apps: apps.filter(|(_, keys)| !keys.is_empty()).collect() }
    }

    /// Has the apps of another snapshot go on with these keys.
    pub fn restore(&self, snapshot: &Snapshot) {
        let by_name: BTreeMap<&str, &[MadeKey]> =
            self.apps.iter().map(|(name, keys)| (&**name, &keys[..])).collect();
        for app in snapshot.apps() {
            if let Some(keys) = by_name.get(&**app.name()) {
                app.go_on_with_ticket_keys(keys);
            }
        }
    }

    /// The keys of each app, by its name.
    pub fn apps(&self) -> impl Iterator<Item = (&str, &[MadeKey])> {
        self.apps.iter().map(|(name, keys)| (&**name, &keys[..]))
    }

    /// The body of the message, which is overwritten in memory when dropped.
    pub(super) fn body(&self) -> Zeroizing<Vec<u8>> {
        // With room for all of it: what grows moves, and leaves what it held behind. JSON writes a byte as six at most.
        let room = self.apps.iter().map(|(name, keys)| APP_BYTES + 6 * name.len() + KEY_BYTES * keys.len());
        let room = MESSAGE_BYTES + room.sum::<usize>();
        let mut body = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *body, self).expect("plain data without maps that have odd keys");
        assert!(body.len() <= room, "{} bytes for {room}", body.len());
        body
    }
}

impl From<Tickets> for Message {
    fn from(tickets: Tickets) -> Self {
        let keys = |keys: &[MadeKey]| keys.iter().map(KeyRecord::of).collect();
        let apps =
            tickets.apps.iter().map(|(name, made)| AppRecord { name: name.to_string(), keys: keys(made) });
        Self { apps: apps.collect() }
    }
}

impl From<Message> for Tickets {
    /// What is no key is left out.
    fn from(message: Message) -> Self {
        let made = |keys: &[KeyRecord]| keys.iter().filter_map(KeyRecord::made).collect();
        let apps = message.apps.iter().map(|app| (Arc::from(&*app.name), made(&app.keys)));
        Self { apps: apps.collect() }
    }
}

impl KeyRecord {
    fn of(made: &MadeKey) -> Self {
        let mut digits = made.to_hex();
        Self { since: made.since(), key: Digits(std::mem::take(&mut *digits)) }
    }

    fn made(&self) -> Option<MadeKey> {
        MadeKey::from_hex(self.since, &self.key.0)
    }
}

#[cfg(test)]
mod tests {
    use ringway::tls::{CertificateFiles, CertificateStore, TlsVersion};
    use testkit::certificates::Authority;

    use super::super::wire;
    use super::*;
    use crate::endpoint::testing::app_of_hosts;
    use crate::model::{RulesOfTls, Termination, Unreadable};
    use crate::snapshot::Lineage;

    /// A process with an app that ends TLS, and whose keys of tickets are its own.
    fn lineage(name: &str) -> Lineage {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("www.pem");
        let issued = Authority::new("servers").issue(&["www.example.com"]);
        std::fs::write(&path, issued.chain + &issued.key).expect("it is written");
        let files = CertificateFiles { chain: path.clone(), key: path, ocsp: None };
        let termination = Termination {
            certificates: Arc::new(CertificateStore::read(vec![files], None).expect("a certificate")),
            alpn: Vec::new(),
            min_version: TlsVersion::Tls12,
            clients: None,
            ticket_keys: None,
            ticket_lifetime: Some(Termination::TICKET_LIFETIME),
        };
        let mut app = app_of_hosts(&[(1, false)]);
        app.name = name.to_owned();
        app.tls =
            Some(RulesOfTls { unreadable: Unreadable::Refuse, termination: Some(Arc::new(termination)) });
        Lineage::of_apps(vec![app])
    }

    fn key(since: u64, digit: char) -> MadeKey {
        MadeKey::from_hex(since, &digit.to_string().repeat(64)).expect("a key")
    }

    #[test]
    fn keys_go_to_the_app_of_the_same_name_with_their_ages() {
        let (old, new, other) = (lineage("web"), lineage("web"), lineage("other"));
        assert_eq!(Tickets::of(&old.current()), Tickets::default(), "nobody has got a ticket");
        let made = [key(600, 'b'), key(0, 'a')];
        old.current().apps().for_each(|app| app.go_on_with_ticket_keys(&made));
        let said = Tickets::of(&old.current());
        assert_eq!(said.apps().collect::<Vec<_>>(), [("web", &made[..])]);
        let heard: Tickets = wire::read(&said.body()).expect("what was said");
        assert_eq!(heard, said);
        for lineage in [&new, &other] {
            heard.restore(&lineage.current());
        }
        assert_eq!(Tickets::of(&new.current()), said);
        assert_eq!(Tickets::of(&other.current()), Tickets::default());
    }

    #[test]
    fn no_key_is_shown_and_what_is_none_is_left_out() {
        let said = Tickets { apps: vec![("web".into(), vec![key(7, 'c')])] };
        assert!(!format!("{said:?}{:?}", Digits("c".repeat(64))).contains("cc"));
        let body = format!(
            r#"{{"apps":[{{"name":"web","keys":[{{"since":1}},{{"key":"12"}},{{"since":7,"key":"{}","x":1}}]}},{{}}]}}"#,
            "c".repeat(64)
        );
        let heard: Tickets = wire::read(body.as_bytes()).expect("a message");
        assert_eq!(heard.apps().collect::<Vec<_>>(), [("web", &[key(7, 'c')][..]), ("", &[])]);
        assert_eq!(wire::read::<Tickets>(b"{}").expect("a message"), Tickets::default());
    }

    #[test]
    fn there_is_room_for_whatever_has_to_be_written() {
        for (name, keys) in [("", 0), ("\u{1}\u{2}\"", 1), ("web", 4)] {
            let keys = vec![key(u64::MAX, 'f'); keys];
            let said = Tickets { apps: vec![(name.into(), keys); 300] };
            assert_eq!(wire::read::<Tickets>(&said.body()).expect("what was said"), said);
        }
        assert_eq!(**Tickets::default().body(), *br#"{"apps":[]}"#);
    }
}
