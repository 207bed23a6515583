//! Session tickets: what a client brings to go on where it left off, sealed with keys of ours.
//!
//! All workers share the keys; several machines do if they are given the same ones. A ticket is bound to the terms that it
//! was issued under: under others it cannot be opened, and the client makes a full handshake. So no resumption gets
//! around a demand for a certificate, a changed authority or a revocation.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

use super::file;

const KEY_BYTES: usize = 32;
const NAME_BYTES: usize = 16;
const TIME_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
/// Keys of a file: more make each foreign ticket dearer, and nobody has so many.
const TICKET_KEYS_MAX: usize = 16;
/// The largest file of keys: with room for comments.
const FILE_BYTES_MAX: usize = 64 << 10;
/// Clocks of machines that share keys may differ by so many seconds.
const CLOCK_SKEW: u64 = 60;

/// The longest life of a ticket: RFC 8446, section 4.6.1, allows no more.
pub const TICKET_LIFETIME_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Keys of tickets as they are given: the first seals, all open. Shown by nothing, compared in full.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketSecrets(Arc<[[u8; KEY_BYTES]]>);

impl TicketSecrets {
    /// Reads keys from text: 64 hexadecimal digits a line, the first seals. `#` begins a comment.
    ///
    /// # Errors
    /// What is wrong with it, in a line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys: Vec<[u8; KEY_BYTES]> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split_once('#').map_or(line, |(before, _)| before).trim();
            if line.is_empty() {
                continue;
            }
            let key =
                from_hex(line).ok_or_else(|| format!("line {number} is no key: 64 hexadecimal digits"))?;
            if keys.contains(&key) {
                return Err(format!("the key of line {number} is there already"));
            }
            if keys.len() == TICKET_KEYS_MAX {
                return Err(format!("there are more than {TICKET_KEYS_MAX} keys"));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(
                "there is no key: 64 hexadecimal digits, as `openssl rand -hex 32` prints them".to_owned()
            );
        }
        Ok(Self(keys.into()))
    }

    /// Reads keys from a file.
    ///
    /// # Errors
    /// Why it cannot be read, or what is wrong with it, in a line.
    pub fn read(path: &Path) -> Result<Self, String> {
        let (bytes, _) =
            file::read(path, FILE_BYTES_MAX).map_err(|error| format!("it cannot be read: {error}"))?;
        Self::parse(std::str::from_utf8(&bytes).map_err(|_| "it is no text".to_owned())?)
    }
}

impl fmt::Debug for TicketSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketSecrets({} keys)", self.0.len())
    }
}

fn from_hex(text: &str) -> Option<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    if text.len() != 2 * KEY_BYTES {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()?;
    }
    Some(key)
}

/// The keys of an app, for all its workers and over all changes of its configuration.
pub struct TicketKeys {
    ring: RwLock<Ring>,
    /// `None`: the keys are given, and change when they are given anew.
    rotation: Option<Duration>,
    lifetime: Duration,
    time: Arc<dyn TimeProvider>,
}

struct Ring {
    /// The first seals.
    keys: Vec<TicketKey>,
    /// The second in which the first was made.
    since: u64,
}

struct TicketKey {
    /// Made of the key, so that machines that share it agree.
    name: [u8; NAME_BYTES],
    key: LessSafeKey,
}

impl TicketKey {
    fn new(key: &[u8; KEY_BYTES]) -> Option<Self> {
        let mut context = Context::new(&SHA256);
        context.update(b"ringway: the name of a ticket key");
        context.update(key);
        let mut name = [0; NAME_BYTES];
        name.copy_from_slice(&context.finish().as_ref()[..NAME_BYTES]);
        Some(Self { name, key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?) })
    }

    fn random() -> Option<Self> {
        let mut key = [0; KEY_BYTES];
        rand::fill(&mut key).ok()?;
        Self::new(&key)
    }

    /// What the ticket is sealed for, beside what it holds.
    fn bound(&self, binding: &Binding) -> Aad<[u8; NAME_BYTES + KEY_BYTES]> {
        let mut data = [0; NAME_BYTES + KEY_BYTES];
        data[..NAME_BYTES].copy_from_slice(&self.name);
        data[NAME_BYTES..].copy_from_slice(&binding.0);
        Aad::from(data)
    }

    fn seal(&self, plain: &[u8], binding: &Binding, now: u64) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut body = Vec::with_capacity(TIME_BYTES + plain.len() + TAG_BYTES);
        body.extend_from_slice(&now.to_be_bytes());
        body.extend_from_slice(plain);
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce_used, self.bound(binding), &mut body).ok()?;
        Some([&self.name[..], &nonce, &body].concat())
    }

    /// What a ticket holds, and when it was issued.
    fn open(&self, nonce: [u8; NONCE_LEN], body: &[u8], binding: &Binding) -> Option<(u64, Vec<u8>)> {
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain = self.key.open_in_place(nonce, self.bound(binding), &mut body).ok()?;
        let (issued, plain) = plain.split_first_chunk()?;
        Some((u64::from_be_bytes(*issued), plain.to_vec()))
    }
}

impl TicketKeys {
    /// Random keys, another one each `lifetime`; none leaves the process.
    ///
    /// # Panics
    /// If the system has no random numbers, or the lifetime is longer than [`TICKET_LIFETIME_MAX`].
    pub fn random(lifetime: Duration) -> Self {
        Self::random_by(lifetime, Arc::new(DefaultTimeProvider))
    }

    /// These keys.
    ///
    /// # Panics
    /// If the lifetime is longer than [`TICKET_LIFETIME_MAX`].
    pub fn given(secrets: &TicketSecrets, lifetime: Duration) -> Self {
        Self::given_by(secrets, lifetime, Arc::new(DefaultTimeProvider))
    }

    fn random_by(lifetime: Duration, time: Arc<dyn TimeProvider>) -> Self {
        let key = TicketKey::random().expect("the system has random numbers");
        Self::new(vec![key], Some(lifetime), lifetime, time)
    }

    fn given_by(secrets: &TicketSecrets, lifetime: Duration, time: Arc<dyn TimeProvider>) -> Self {
        let keys = secrets.0.iter().map(|key| TicketKey::new(key).expect("it has the length of a key"));
        Self::new(keys.collect(), None, lifetime, time)
    }

    fn new(
        keys: Vec<TicketKey>,
        rotation: Option<Duration>,
        lifetime: Duration,
        time: Arc<dyn TimeProvider>,
    ) -> Self {
        assert!(lifetime <= TICKET_LIFETIME_MAX, "no ticket lives longer than a week");
        let since = seconds(&*time);
        Self { ring: RwLock::new(Ring { keys, since }), rotation, lifetime, time }
    }

    /// Seals a ticket, with a new key if it is time for one.
    fn seal(&self, plain: &[u8], binding: &Binding) -> Option<Vec<u8>> {
        let now = seconds(&*self.time);
        {
            let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
            if !self.is_due(&ring, now) {
                return ring.keys.first()?.seal(plain, binding, now);
            }
        }
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if self.is_due(&ring, now) {
            // What was sealed with the last one may be brought for as long as the next one seals.
            ring.keys.truncate(1);
            ring.keys.insert(0, TicketKey::random()?);
            ring.since = now;
        }
        ring.keys.first()?.seal(plain, binding, now)
    }

    fn is_due(&self, ring: &Ring, now: u64) -> bool {
        self.rotation.is_some_and(|rotation| now.saturating_sub(ring.since) >= rotation.as_secs().max(1))
    }

    fn open(&self, ticket: &[u8], binding: &Binding) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>()?;
        let now = seconds(&*self.time);
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let key = ring.keys.iter().find(|key| key.name == *name)?;
        let (issued, plain) = key.open(*nonce, body, binding)?;
        let is_fresh = issued <= now + CLOCK_SKEW && now.saturating_sub(issued) < self.lifetime.as_secs();
        is_fresh.then_some(plain)
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys")
            .field("rotation", &self.rotation)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// The seconds since the beginning of 1970. Without a clock it is 1970, and tickets are as good as their keys.
fn seconds(time: &dyn TimeProvider) -> u64 {
    time.current_time().map_or(0, |time| time.as_secs())
}

/// The terms that tickets are bound to, as a digest of all that they are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Binding([u8; KEY_BYTES]);

impl Binding {
    /// Of these parts, in this order.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(b"ringway: the terms of a ticket");
        for part in parts {
            // With its length before it, so that no other parts say the same.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; KEY_BYTES];
        digest.copy_from_slice(context.finish().as_ref());
        Self(digest)
    }

    /// Of all that an app's resumptions must not get around.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The tickets of some terms.
#[derive(Debug)]
pub(super) struct Tickets {
    keys: Arc<TicketKeys>,
    binding: Binding,
}

impl Tickets {
    pub(super) fn new(keys: Arc<TicketKeys>, binding: Binding) -> Self {
        Self { keys, binding }
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        !self.keys.lifetime.is_zero()
    }

    fn lifetime(&self) -> u32 {
        // At most a week.
        self.keys.lifetime.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.seal(plain, &self.binding)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.keys.open(cipher, &self.binding)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;
    use rustls::pki_types::UnixTime;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// A clock that a test moves.
    #[derive(Debug)]
    struct TestTime(AtomicU64);

    impl TestTime {
        fn new() -> Arc<Self> {
            Arc::new(Self(AtomicU64::new(1_000_000)))
        }

        fn pass(&self, seconds: u64) {
            self.0.fetch_add(seconds, Ordering::Relaxed);
        }
    }

    impl TimeProvider for TestTime {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
        }
    }

    fn tickets(keys: &Arc<TicketKeys>, parts: &[&str]) -> Tickets {
        Tickets::new(Arc::clone(keys), Binding::of(parts.iter().map(|part| part.as_bytes())))
    }

    fn secrets(digits: &[char]) -> TicketSecrets {
        let lines: Vec<String> = digits.iter().map(|digit| digit.to_string().repeat(64)).collect();
        TicketSecrets::parse(&lines.join("\n")).expect("they are keys")
    }

    #[test]
    fn a_ticket_opens_under_its_own_terms_only() {
        let keys = Arc::new(TicketKeys::random_by(HOUR, TestTime::new()));
        let ticket = tickets(&keys, &["app", "required"]).encrypt(b"secret").expect("it is sealed");
        assert_eq!(tickets(&keys, &["app", "required"]).decrypt(&ticket).as_deref(), Some(&b"secret"[..]));
        for other in [
            &["app", "optional"][..],
            &["other", "required"],
            &["apprequired"],
            &["app", "required", ""],
            &["apprequi", "red"],
        ] {
            assert_eq!(tickets(&keys, other).decrypt(&ticket), None, "{other:?}");
        }
        let of_another_process = Arc::new(TicketKeys::random_by(HOUR, TestTime::new()));
        assert_eq!(tickets(&of_another_process, &["app", "required"]).decrypt(&ticket), None);
    }

    #[test]
    fn two_tickets_of_the_same_are_different() {
        let keys = Arc::new(TicketKeys::random_by(HOUR, TestTime::new()));
        let tickets = tickets(&keys, &[]);
        assert_ne!(tickets.encrypt(b"same"), tickets.encrypt(b"same"));
    }

    #[test]
    fn a_ticket_is_good_for_its_lifetime_over_a_change_of_keys_and_no_longer() {
        let time = TestTime::new();
        let keys = Arc::new(TicketKeys::random_by(HOUR, Arc::clone(&time) as _));
        let tickets = tickets(&keys, &[]);
        time.pass(3_000);
        let first = tickets.encrypt(b"1").expect("it is sealed");
        time.pass(700);
        let second = tickets.encrypt(b"2").expect("it is sealed");
        assert_ne!(first[..NAME_BYTES], second[..NAME_BYTES], "another key seals after an hour");
        time.pass(2_899);
        assert!(tickets.decrypt(&first).is_some(), "3599 s old");
        time.pass(1);
        assert_eq!(tickets.decrypt(&first), None, "3600 s old, though its key is still there");
        assert!(tickets.decrypt(&second).is_some());
        time.pass(4_000);
        tickets.encrypt(b"3").expect("it is sealed");
        time.pass(4_000);
        tickets.encrypt(b"4").expect("it is sealed");
        assert_eq!(keys.ring.read().expect("it is").keys.len(), 2, "no more keys than are of use");
    }

    #[test]
    fn machines_with_the_same_keys_open_each_other_s_tickets_while_keys_are_exchanged() {
        let time = TestTime::new();
        let given =
            |digits: &[char]| Arc::new(TicketKeys::given_by(&secrets(digits), HOUR, Arc::clone(&time) as _));
        let old = tickets(&given(&['a']), &["app"]).encrypt(b"x").expect("it is sealed");
        let both = tickets(&given(&['b', 'a']), &["app"]);
        assert!(both.decrypt(&old).is_some());
        let new = both.encrypt(b"x").expect("it is sealed");
        assert!(tickets(&given(&['b']), &["app"]).decrypt(&new).is_some());
        assert_eq!(tickets(&given(&['b']), &["app"]).decrypt(&old), None);
        time.pass(10_000);
        let late = both.encrypt(b"x").expect("it is sealed");
        assert_eq!(late[..NAME_BYTES], new[..NAME_BYTES], "given keys are not changed by time");
        time.pass(3_600);
        assert_eq!(both.decrypt(&late), None, "but tickets are not good for ever");
    }

    #[test]
    fn a_ticket_from_the_future_is_one_of_a_machine_whose_clock_is_a_little_ahead() {
        let (here, there) = (TestTime::new(), TestTime::new());
        let given = |time: &Arc<TestTime>| {
            Arc::new(TicketKeys::given_by(&secrets(&['a']), HOUR, Arc::clone(time) as _))
        };
        let (own, others) = (tickets(&given(&here), &[]), tickets(&given(&there), &[]));
        there.pass(CLOCK_SKEW);
        assert!(own.decrypt(&others.encrypt(b"").expect("it is sealed")).is_some());
        there.pass(1);
        assert_eq!(own.decrypt(&others.encrypt(b"").expect("it is sealed")), None);
    }

    #[test]
    fn keys_are_read_from_lines_and_shown_to_nobody() {
        let text = format!("# First\n{} # the one that seals\n\n  {}\r\n", "aB".repeat(32), "0".repeat(64));
        let secrets = TicketSecrets::parse(&text).expect("they are keys");
        assert_eq!(secrets.0[..], [[0xab; 32], [0; 32]]);
        assert_eq!(format!("{secrets:?}"), "TicketSecrets(2 keys)");
        for (text, message) in [
            ("", "there is no key: 64 hexadecimal digits, as `openssl rand -hex 32` prints them"),
            ("# nothing", "there is no key: 64 hexadecimal digits, as `openssl rand -hex 32` prints them"),
            ("\nabc", "line 2 is no key: 64 hexadecimal digits"),
            (&"x".repeat(64), "line 1 is no key: 64 hexadecimal digits"),
            (&"é".repeat(32), "line 1 is no key: 64 hexadecimal digits"),
            (&format!("{0}\n{0}", "a".repeat(64)), "the key of line 2 is there already"),
        ] {
            assert_eq!(TicketSecrets::parse(text), Err(message.to_owned()), "{text:?}");
        }
        let many: String = (0..17).map(|number| format!("{number:064x}\n")).collect();
        assert_eq!(TicketSecrets::parse(&many), Err("there are more than 16 keys".to_owned()));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_not_a_ticket_to_the_last_bit_does_not_open(
            plain in prop::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u32,
            garbage in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let keys = Arc::new(TicketKeys::given_by(&secrets(&['a', 'b']), HOUR, TestTime::new()));
            let tickets = tickets(&keys, &["app"]);
            let ticket = tickets.encrypt(&plain).expect("it is sealed");
            prop_assert_eq!(tickets.decrypt(&ticket), Some(plain));
            let mut changed = ticket.clone();
            let at = at.index(ticket.len());
            changed[at] ^= 1 << bit;
            prop_assert_eq!(tickets.decrypt(&changed), None);
            prop_assert_eq!(tickets.decrypt(&ticket[..at]), None);
            prop_assert_eq!(tickets.decrypt(&garbage), None);
        }
    }
}
