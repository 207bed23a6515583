//! Session tickets: what a client brings to go on where it left off, sealed with keys of ours.
//!
//! All workers share the keys; several machines do if they are given the same ones. A ticket is bound to the terms that it
//! was issued under: under others it cannot be opened, and the client makes a full handshake. So no resumption gets
//! around a demand for a certificate, a changed authority or a revocation.
//!
//! Keys that the process makes may go on in another one that follows it ([`TicketKeys::made`], [`TicketKeys::go_on_with`]). Two
//! processes may seal with one key, as several workers do: nonces are random, and nobody counts.

use std::cmp::Reverse;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use zeroize::Zeroizing;

use super::file;

const KEY_BYTES: usize = 32;
const NAME_BYTES: usize = 16;
const TIME_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
/// Keys of a file: more make each foreign ticket dearer, and nobody has so many.
const TICKET_KEYS_MAX: usize = 16;
/// Keys that are made: the one that seals, the one before it, and as many of another process, should both have sealed.
const MADE_KEYS_MAX: usize = 4;
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
    read_hex(text, &mut key).then_some(key)
}

/// Whether it was a key in hexadecimal digits.
fn read_hex(text: &str, key: &mut [u8; KEY_BYTES]) -> bool {
    if text.len() != 2 * KEY_BYTES {
        return false;
    }
    key.iter_mut().zip(text.as_bytes().chunks_exact(2)).all(|(byte, digits)| {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let read = digit(digits[0]).zip(digit(digits[1]));
        *byte = read.map_or(0, |(high, low)| (high << 4 | low) as u8);
        read.is_some()
    })
}

/// A key that a process made, as another one goes on with it. Shown by nothing, and overwritten in memory once nobody has it.
#[derive(Clone, PartialEq, Eq)]
pub struct MadeKey {
    since: u64,
    secret: Arc<Zeroizing<[u8; KEY_BYTES]>>,
}

impl MadeKey {
    /// A key in hexadecimal digits that seals since this second, counted from the beginning of 1970; `None` if it is none.
    pub fn from_hex(since: u64, digits: &str) -> Option<Self> {
        Self::fill(since, |secret| read_hex(digits, secret))
    }

    /// In hexadecimal digits.
    pub fn to_hex(&self) -> Zeroizing<String> {
        // With room for all, so that it does not move and leave something behind.
        let mut digits = Zeroizing::new(String::with_capacity(2 * KEY_BYTES));
        for byte in self.secret.iter() {
            for half in [byte >> 4, byte & 15] {
                digits.push(char::from_digit(u32::from(half), 16).expect("it is below 16"));
            }
        }
        digits
    }

    /// The second since which it seals, counted from the beginning of 1970.
    pub fn since(&self) -> u64 {
        self.since
    }

    fn random(since: u64) -> Option<Self> {
        Self::fill(since, |secret| rand::fill(secret).is_ok())
    }

    /// It is written where it stays.
    fn fill(since: u64, fill: impl FnOnce(&mut [u8; KEY_BYTES]) -> bool) -> Option<Self> {
        let mut secret = Arc::new(Zeroizing::new([0; KEY_BYTES]));
        let is_filled = fill(Arc::get_mut(&mut secret).expect("nobody else has it yet"));
        is_filled.then_some(Self { since, secret })
    }
}

impl fmt::Debug for MadeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MadeKey").field("since", &self.since).finish_non_exhaustive()
    }
}

/// The keys of an app, for all its workers and over all changes of its configuration.
pub struct TicketKeys {
    /// The first seals. There is none until a ticket is asked for, or another process's are known.
    ring: RwLock<Vec<TicketKey>>,
    /// `None`: the keys are given, and change when they are given anew.
    rotation: Option<Duration>,
    lifetime: Duration,
    time: Arc<dyn TimeProvider>,
}

struct TicketKey {
    /// Made of the key, so that machines that share it agree.
    name: [u8; NAME_BYTES],
    key: LessSafeKey,
    /// None of keys that are given.
    made: Option<MadeKey>,
}

impl TicketKey {
    fn new(key: &[u8; KEY_BYTES]) -> Option<Self> {
        let mut context = Context::new(&SHA256);
        context.update(b"ringway: the name of a ticket key");
        context.update(key);
        let mut name = [0; NAME_BYTES];
        name.copy_from_slice(&context.finish().as_ref()[..NAME_BYTES]);
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
        Some(Self { name, key, made: None })
    }

    fn of(made: MadeKey) -> Option<Self> {
        let key = Self::new(&made.secret)?;
        Some(Self { made: Some(made), ..key })
    }

    /// The second since which it seals.
    fn since(&self) -> u64 {
        self.made.as_ref().map_or(0, |made| made.since)
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
    /// Random keys, another one each `lifetime`, the first one with the first ticket.
    ///
    /// # Panics
    /// If the lifetime is longer than [`TICKET_LIFETIME_MAX`].
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
        Self::new(Vec::new(), Some(lifetime), lifetime, time)
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
        Self { ring: RwLock::new(keys), rotation, lifetime, time }
    }

    /// The keys that were made here, or came from another process, the one that seals first; none if they are given.
    pub fn made(&self) -> Vec<MadeKey> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        ring.iter().filter_map(|key| key.made.clone()).collect()
    }

    /// Goes on with keys of another process, each for as long as it would have been used there: the newest of all seals, and a
    /// next one is made when it would have been. What was sealed here still opens. Nothing happens if keys are given.
    pub fn go_on_with(&self, made: &[MadeKey]) {
        if self.rotation.is_none() {
            return;
        }
        let now = seconds(&*self.time);
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        for made in made.iter().take(MADE_KEYS_MAX) {
            // Whoever seals with a key of the future would do so for ever.
            let made = MadeKey { since: made.since.min(now), ..made.clone() };
            if let Some(key) = TicketKey::of(made)
                && ring.iter().all(|own| own.name != key.name)
            {
                ring.push(key);
            }
        }
        ring.sort_by_key(|key| Reverse(key.since()));
        ring.truncate(MADE_KEYS_MAX);
    }

    /// Seals a ticket, with a new key if it is time for one.
    fn seal(&self, plain: &[u8], binding: &Binding) -> Option<Vec<u8>> {
        let now = seconds(&*self.time);
        {
            let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
            if !self.is_due(&ring, now) {
                return ring.first()?.seal(plain, binding, now);
            }
        }
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if self.is_due(&ring, now) {
            let next = TicketKey::of(MadeKey::random(now)?)?;
            // What was sealed with a key may be brought for a lifetime after the key that followed it was made.
            let mut until = now;
            ring.retain(|key| {
                let sealed_until = std::mem::replace(&mut until, key.since());
                now.saturating_sub(sealed_until) < self.lifetime.as_secs()
            });
            ring.insert(0, next);
            ring.truncate(MADE_KEYS_MAX);
        }
        ring.first()?.seal(plain, binding, now)
    }

    fn is_due(&self, ring: &[TicketKey], now: u64) -> bool {
        let is_old = |rotation: Duration, key: &TicketKey| {
            now.saturating_sub(key.since()) >= rotation.as_secs().max(1)
        };
        self.rotation.is_some_and(|rotation| ring.first().is_none_or(|key| is_old(rotation, key)))
    }

    fn open(&self, ticket: &[u8], binding: &Binding) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>()?;
        let now = seconds(&*self.time);
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let key = ring.iter().find(|key| key.name == *name)?;
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

/// Terms as a digest of all that they are made of (SHA-256): what tickets are bound to, and what tells terms apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Binding([u8; KEY_BYTES]);

impl Binding {
    /// Of these parts, in this order.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut context = Context::new(&SHA256);
        // Another text when rustls writes other things into tickets: they outlive the program, by its successor or by a file.
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
        assert!(keys.made().is_empty(), "nobody has asked for a ticket");
        tickets.encrypt(b"0").expect("it is sealed");
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
        assert_eq!(keys.made().len(), 2, "no more keys than are of use");
    }

    /// Keys of a process that has made none yet, and what seals with them.
    fn process(time: &Arc<TestTime>) -> (Arc<TicketKeys>, Tickets) {
        let keys = Arc::new(TicketKeys::random_by(HOUR, Arc::clone(time) as _));
        let tickets = tickets(&keys, &["app"]);
        (keys, tickets)
    }

    #[test]
    fn another_process_opens_what_was_sealed_and_makes_the_next_key_when_it_is_time() {
        let time = TestTime::new();
        let (old, of_old) = process(&time);
        let first = of_old.encrypt(b"1").expect("it is sealed");
        time.pass(3_600);
        let second = of_old.encrypt(b"2").expect("it is sealed");
        time.pass(1_800);
        let (new, of_new) = process(&time);
        new.go_on_with(&old.made());
        assert_eq!(new.made(), old.made());
        assert!(of_new.decrypt(&second).is_some());
        assert_eq!(of_new.decrypt(&first), None, "it is too old, as it was there");
        assert_eq!(tickets(&new, &["other"]).decrypt(&second), None, "terms are what they were");
        let third = of_new.encrypt(b"3").expect("it is sealed");
        assert_eq!(third[..NAME_BYTES], second[..NAME_BYTES]);
        assert!(of_old.decrypt(&third).is_some(), "of the two either may serve");
        time.pass(1_799);
        let fourth = of_new.encrypt(b"4").expect("it is sealed");
        assert_eq!(fourth[..NAME_BYTES], second[..NAME_BYTES]);
        time.pass(1);
        let fifth = of_new.encrypt(b"5").expect("it is sealed");
        assert_ne!(
            fifth[..NAME_BYTES],
            second[..NAME_BYTES],
            "an hour after the key was made, and not later"
        );
        assert!(of_new.decrypt(&third).is_some());
    }

    #[test]
    fn no_ticket_of_either_process_is_lost_when_both_have_sealed() {
        let time = TestTime::new();
        let ((old, of_old), (new, of_new)) = (process(&time), process(&time));
        let before = of_old.encrypt(b"old").expect("it is sealed");
        time.pass(3_000);
        let own = of_new.encrypt(b"new").expect("it is sealed");
        new.go_on_with(&old.made());
        // Told twice is told once.
        new.go_on_with(&old.made());
        assert_eq!(new.made().len(), 2);
        time.pass(599);
        assert!(of_new.decrypt(&before).is_some() && of_new.decrypt(&own).is_some());
        time.pass(3_000);
        let later = of_new.encrypt(b"later").expect("it is sealed");
        assert_eq!(later[..NAME_BYTES], own[..NAME_BYTES], "the newest seals");
        time.pass(1);
        of_new.encrypt(b"next").expect("it is sealed");
        assert!(of_new.decrypt(&later).is_some());
        assert_eq!(new.made().len(), 2, "the old process's key is of no use any more");
    }

    #[test]
    fn what_another_process_says_of_keys_is_bounded_and_nothing_replaces_given_ones() {
        let time = TestTime::new();
        let said: Vec<MadeKey> = (0..40)
            .map(|number| MadeKey::from_hex(u64::MAX - number, &format!("{number:064x}")).expect("a key"))
            .collect();
        let (keys, of_keys) = process(&time);
        keys.go_on_with(&said);
        assert_eq!(keys.made().len(), MADE_KEYS_MAX);
        let first = of_keys.encrypt(b"1").expect("it is sealed");
        time.pass(3_600);
        let second = of_keys.encrypt(b"2").expect("it is sealed");
        assert_ne!(first[..NAME_BYTES], second[..NAME_BYTES], "no key is of the future");
        let given = TicketKeys::given_by(&secrets(&['a']), HOUR, Arc::clone(&time) as _);
        given.go_on_with(&said);
        assert!(given.made().is_empty());
        let given = Arc::new(given);
        let ticket = tickets(&given, &[]).encrypt(b"x").expect("it is sealed");
        assert_eq!(ticket[..NAME_BYTES], TicketKey::new(&[0xaa; 32]).expect("a key").name);
    }

    #[test]
    fn a_key_that_was_made_is_written_and_read_and_shown_to_nobody() {
        let digits = "00ff5a".repeat(10) + "c0de";
        let key = MadeKey::from_hex(7, &digits).expect("a key");
        assert_eq!((key.since(), key.to_hex().as_str()), (7, digits.as_str()));
        assert_eq!(format!("{key:?}"), "MadeKey { since: 7, .. }");
        for wrong in ["", "00", &"x".repeat(64), &"é".repeat(32), &"0".repeat(66)] {
            assert_eq!(MadeKey::from_hex(7, wrong), None, "{wrong:?}");
        }
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
