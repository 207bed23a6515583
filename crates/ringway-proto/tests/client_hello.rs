//! Hellos: the table of torture, and what holds for any bytes however they are cut.
#![forbid(unsafe_code)]

use proptest::prelude::*;
use ringway_proto::client_hello::torture::cases;
use ringway_proto::client_hello::{
    HELLO_BYTES_MAX, HelloError, HelloWriter, Outcome, Version, parse, records,
};

#[test]
fn every_case_of_the_table_has_its_answer_however_it_comes() {
    let mut faults = Vec::new();
    let cases = cases();
    for case in &cases {
        if let Err(problem) = case.check() {
            faults.push(format!("{}: {problem}; expected {}", case.name, case.expected()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(cases.len() > 60, "only {} cases", cases.len());
}

#[test]
fn every_rule_has_a_case_and_says_where_it_is_written() {
    let expected: Vec<String> = cases().iter().map(|case| case.expected()).collect();
    for error in [
        HelloError::Sslv2,
        HelloError::RecordVersion,
        HelloError::EmptyRecord,
        HelloError::RecordTooLong,
        HelloError::Interleaved,
        HelloError::NotClientHello,
        HelloError::TooLong,
        HelloError::Trailing,
        HelloError::Length,
        HelloError::Version,
        HelloError::SessionId,
        HelloError::CipherSuites,
        HelloError::Compression,
        HelloError::RepeatedExtension,
        HelloError::NoServerName,
        HelloError::SeveralServerNames,
        HelloError::ServerNameType,
        HelloError::ServerName,
        HelloError::IpLiteral,
        HelloError::Alpn,
        HelloError::SupportedVersions,
    ] {
        assert!(expected.contains(&format!("unreadable: {error}")), "{error} has no case");
        assert!(error.reference().starts_with("RFC "), "{error}");
    }
}

/// OpenSSL 3.0: `openssl s_client -connect … -servername www.example.com -alpn h2,http/1.1 -tls1_2`.
#[test]
fn hello_that_openssl_sent_is_read() {
    let bytes = include_bytes!("hellos/openssl-tls12.bin");
    let Outcome::Hello(hello) = parse(bytes) else { panic!("{:?}", parse(bytes)) };
    assert_eq!(hello.server_name().map(|name| name.as_str()), Some("www.example.com"));
    let alpn: Vec<String> = hello.alpn().map(|protocol| protocol.to_string()).collect();
    assert_eq!(alpn, ["h2", "http/1.1"]);
    assert_eq!(hello.highest_version(), Some(Version::Tls12));
}

#[test]
fn versions_are_those_that_are_spoken() {
    let wire = records(&HelloWriter::new().supported_versions(&[0x0304, 0x0303, 0x7a7a]).message(), 100);
    let Outcome::Hello(hello) = parse(&wire) else { panic!("{:?}", parse(&wire)) };
    assert!(hello.offers(Version::Tls13) && hello.offers(Version::Tls12) && !hello.offers(Version::Tls11));
    let wire = records(&HelloWriter::new().legacy_version(Version::Tls11).message(), 100);
    let Outcome::Hello(hello) = parse(&wire) else { panic!("{:?}", parse(&wire)) };
    assert!(hello.offers(Version::Tls10) && hello.offers(Version::Tls11) && !hello.offers(Version::Tls12));
}

/// Until there is an answer there is none, and then it stays, whatever follows.
fn check_every_cut(bytes: &[u8]) -> Result<(), TestCaseError> {
    let whole = parse(bytes);
    let mut decided = None;
    for end in 0..=bytes.len() {
        let outcome = parse(&bytes[..end]);
        match decided {
            Some(first) => prop_assert_eq!(&outcome, &parse(&bytes[..first]), "decided after {}", first),
            None if outcome != Outcome::More => decided = Some(end),
            None => {}
        }
    }
    prop_assert_eq!(decided.is_none(), whole == Outcome::More);
    prop_assert!(bytes.len() < HELLO_BYTES_MAX || decided.is_some() || bytes.is_empty());
    Ok(())
}

/// A hello with what the parts say, and what was asked for.
fn any_hello() -> impl Strategy<Value = (Vec<u8>, Option<String>, Vec<String>)> {
    let name = proptest::option::of("[a-z0-9-]{1,20}(\\.[a-z]{1,10}){0,3}\\.[a-z]{2,5}");
    let alpn = proptest::collection::vec("[a-z0-9/.]{1,12}", 0..4);
    let others = proptest::collection::vec((0x5000_u16..0xf000, 0_usize..600), 0..4);
    (name, alpn, others).prop_map(|(name, alpn, mut others)| {
        others.sort_unstable();
        others.dedup_by_key(|other| other.0);
        let mut writer = HelloWriter::new();
        for (kind, bytes) in others {
            writer = writer.extension(kind, &vec![0xab; bytes]);
        }
        if let Some(name) = &name {
            writer = writer.server_name(name);
        }
        if !alpn.is_empty() {
            writer = writer.alpn(&alpn.iter().map(String::as_str).collect::<Vec<_>>());
        }
        (writer.message(), name, alpn)
    })
}

/// What the fuzzer begins with: `fuzz/seeds/client_hello`.
#[test]
fn seeds_of_the_fuzzer_have_one_answer_however_they_are_cut() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/client_hello");
    let mut count = 0;
    for entry in std::fs::read_dir(directory).expect("the seeds are there") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("a file");
        check_every_cut(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        count += 1;
    }
    assert!(count >= 10, "only {count} seeds");
}

proptest! {
    #[test]
    fn any_hello_is_read_the_same_in_records_of_any_sizes(
        (message, name, alpn) in any_hello(),
        sizes in proptest::collection::vec(1_usize..700, 1..40),
        rest in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut wire = Vec::new();
        let mut left = &message[..];
        for size in sizes.iter().cycle() {
            if left.is_empty() {
                break;
            }
            let (fragment, others) = left.split_at((*size).min(left.len()));
            wire.extend(records(fragment, fragment.len()));
            left = others;
        }
        prop_assume!(wire.len() <= HELLO_BYTES_MAX);
        wire.extend(rest);
        let Outcome::Hello(hello) = parse(&wire) else { panic!("{:?}", parse(&wire)) };
        prop_assert_eq!(hello.server_name().map(|name| name.as_str()), name.as_deref());
        prop_assert_eq!(hello.alpn().map(|protocol| protocol.to_string()).collect::<Vec<_>>(), alpn);
    }

    #[test]
    fn any_bytes_have_one_answer_however_they_are_cut(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        like_tls in any::<bool>(),
    ) {
        let bytes = if like_tls { [&[22, 3, 1][..], &bytes].concat() } else { bytes };
        check_every_cut(&bytes)?;
    }

    #[test]
    fn a_hello_with_changed_bytes_has_one_answer_however_it_is_cut(
        (message, ..) in any_hello(),
        size in 1_usize..800,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut wire = records(&message, size);
        for (place, byte) in changes {
            let place = place.index(wire.len());
            wire[place] = byte;
        }
        wire.truncate(2_000);
        check_every_cut(&wire)?;
    }
}
