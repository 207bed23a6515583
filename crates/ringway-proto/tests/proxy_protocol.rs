//! PROXY headers: what is taken, what is refused and when, and what holds for any bytes however they are cut.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use proptest::prelude::*;
use ringway_proto::proxy_protocol::v2::{SIGNATURE, Writer};
use ringway_proto::proxy_protocol::{
    Addresses, Command, HEADER_BYTES_MAX, HeaderError, LINE_BYTES_MAX, Tlv, Transport, Version, crc32c,
    may_begin, parse, tlv_type, write_v1,
};

fn error(bytes: &[u8]) -> HeaderError {
    match parse(bytes) {
        Err(error) => error,
        other => panic!("{:?} gave {other:?}", bytes.escape_ascii().to_string()),
    }
}

fn is_incomplete(bytes: &[u8]) -> bool {
    matches!(parse(bytes), Ok(None))
}

/// A header of version 2 with this command, family, and block.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend_from_slice(&[command, family]);
    bytes.extend_from_slice(&(block.len() as u16).to_be_bytes());
    bytes.extend_from_slice(block);
    bytes
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn line_gives_both_ends_and_its_length() {
    let bytes = b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n\r\n";
    let (header, length) = parse(bytes).expect("well-formed").expect("complete");
    assert_eq!(
        (header.version, header.command, header.transport),
        (Version::V1, Command::Proxy, Transport::Stream)
    );
    assert_eq!(header.source(), Some(address("255.255.255.255:65535")));
    assert_eq!(header.destination(), Some(address("0.0.0.0:0")));
    assert_eq!(&bytes[length..], b"\r\n");

    let (header, _) =
        parse(b"PROXY TCP6 2001:db8::1 ::FFFF:192.0.2.1 1 2\r\n").expect("well-formed").expect("complete");
    assert_eq!(header.source(), Some(address("[2001:db8::1]:1")));
    assert_eq!(header.destination(), Some(address("[::ffff:192.0.2.1]:2")));
}

#[test]
fn unknown_is_taken_with_and_without_addresses_which_are_ignored() {
    for line in [
        "PROXY UNKNOWN\r\n",
        "PROXY UNKNOWN \r\n",
        "PROXY UNKNOWN 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        "PROXY UNKNOWN what\x00ever\r\n",
    ] {
        let (header, length) = parse(line.as_bytes()).expect(line).expect(line);
        assert_eq!((header.source(), header.addresses, length), (None, Addresses::Unspecified, line.len()));
    }
}

#[test]
fn longest_line_has_107_bytes_and_a_longer_one_is_refused_before_its_end() {
    let mut line = b"PROXY UNKNOWN ".to_vec();
    line.resize(LINE_BYTES_MAX - 2, b'x');
    let mut longest = line.clone();
    longest.extend_from_slice(b"\r\n");
    assert!(matches!(parse(&longest), Ok(Some((_, LINE_BYTES_MAX)))));

    line.push(b'x');
    assert!(is_incomplete(&line));
    line.push(b'\r');
    assert_eq!(error(&line), HeaderError::LineEnd);
    line.push(b'\n');
    assert_eq!(error(&line), HeaderError::LineEnd);
}

#[test]
fn lines_that_do_not_match_exactly_are_refused() {
    for (line, expected) in [
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", HeaderError::LineEnd),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r\n", HeaderError::LineEnd),
        ("PROXY UNKNOWN a\rb\r\n", HeaderError::LineEnd),
        ("PROXY \r\n", HeaderError::Protocol),
        ("PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n", HeaderError::Protocol),
        ("PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n", HeaderError::Protocol),
        ("PROXY UNKNOWNS\r\n", HeaderError::Protocol),
        ("PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n", HeaderError::Protocol),
        ("PROXY TCP4\r\n", HeaderError::Fields),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", HeaderError::Fields),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", HeaderError::Fields),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", HeaderError::Fields),
        ("PROXY TCP4 1.2.3.4  5.6.7.8 1\r\n", HeaderError::Address),
        ("PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n", HeaderError::Address),
        ("PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n", HeaderError::Address),
        ("PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n", HeaderError::Address),
        ("PROXY TCP4 1.2.3.4.5 5.6.7.8 1 2\r\n", HeaderError::Address),
        ("PROXY TCP4 ::1 ::2 1 2\r\n", HeaderError::Address),
        ("PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", HeaderError::Address),
        ("PROXY TCP6 ::1%lo ::2 1 2\r\n", HeaderError::Address),
        ("PROXY TCP6 1::2::3 ::2 1 2\r\n", HeaderError::Address),
        ("PROXY TCP6 [::1] ::2 1 2\r\n", HeaderError::Address),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", HeaderError::Port),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 00 2\r\n", HeaderError::Port),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", HeaderError::Port),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", HeaderError::Port),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n", HeaderError::Port),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1x 2\r\n", HeaderError::Port),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 99999999999999999999\r\n", HeaderError::Port),
    ] {
        assert_eq!(error(line.as_bytes()), expected, "{line:?}");
    }
}

#[test]
fn what_is_no_header_is_refused_at_its_first_wrong_byte() {
    for (bytes, wrong) in [
        (&b"GET / HTTP/1.1\r\n"[..], 0),
        (b"PROXX TCP4", 4),
        (b"PROXY\tTCP4", 5),
        (b"\r\n\r\n\0\r\nQUIT\r", 11),
        (b"\x16\x03\x01", 0),
    ] {
        assert!(is_incomplete(&bytes[..wrong]), "{bytes:?}");
        assert!(may_begin(&bytes[..wrong]));
        assert_eq!(error(&bytes[..=wrong]), HeaderError::NotProxy);
        assert!(!may_begin(bytes));
    }
}

#[test]
fn binary_header_gives_addresses_of_every_family() {
    let block =
        [&[192, 0, 2, 1, 198, 51, 100, 7][..], &56_324_u16.to_be_bytes(), &443_u16.to_be_bytes()].concat();
    let bytes = [v2(0x21, 0x11, &block), b"payload".to_vec()].concat();
    let (header, length) = parse(&bytes).expect("well-formed").expect("complete");
    assert_eq!((header.version, length), (Version::V2, 28));
    assert_eq!(
        (header.source(), header.destination()),
        (Some(address("192.0.2.1:56324")), Some(address("198.51.100.7:443")))
    );

    let mut block = vec![0; 36];
    (block[0], block[15], block[31], block[33], block[35]) = (0x20, 1, 2, 3, 4);
    let bytes = v2(0x21, 0x21, &block);
    let (header, _) = parse(&bytes).expect("well-formed").expect("complete");
    assert_eq!(
        (header.source(), header.destination()),
        (Some(address("[2000::1]:3")), Some(address("[::2]:4")))
    );

    let mut block = vec![0; 216];
    block[..4].copy_from_slice(b"/a/b");
    let bytes = v2(0x21, 0x31, &block);
    let (header, _) = parse(&bytes).expect("well-formed").expect("complete");
    assert_eq!(header.source(), None);
    let Addresses::Unix { source, destination } = header.addresses else { panic!("{header:?}") };
    assert_eq!((&source[..5], destination), (&b"/a/b\0"[..], &[0; 108]));
}

#[test]
fn addresses_do_not_count_where_the_header_says_that_they_do_not() {
    let block = [0xff; 12];
    for (command, family) in [
        (0x20, 0x00),
        (0x20, 0x11),
        // Not assigned, but the family of a LOCAL header is ignored.
        (0x20, 0xff),
        (0x21, 0x00),
        (0x21, 0x01),
        (0x21, 0x10),
        // Datagrams do not come over a stream.
        (0x21, 0x12),
    ] {
        let bytes = v2(command, family, &block);
        let (header, length) = parse(&bytes).expect("well-formed").expect("complete");
        assert_eq!((header.source(), length), (None, bytes.len()), "{command:x} {family:x}");
    }
}

#[test]
fn binary_headers_that_are_wrong_are_refused_at_the_byte_that_says_so() {
    for (command, family, length, seen, expected) in [
        (0x11, 0x11, 12, 13, HeaderError::Version),
        (0x31, 0x11, 12, 13, HeaderError::Version),
        (0x22, 0x11, 12, 13, HeaderError::Command),
        (0x21, 0x41, 12, 14, HeaderError::Family),
        (0x21, 0x13, 12, 14, HeaderError::Family),
        (0x21, 0x11, 11, 16, HeaderError::Length),
        (0x21, 0x21, 35, 16, HeaderError::Length),
        (0x21, 0x31, 215, 16, HeaderError::Length),
        (0x21, 0x11, HEADER_BYTES_MAX - 15, 16, HeaderError::TooLong),
        (0x20, 0x00, 65_535, 16, HeaderError::TooLong),
    ] {
        let bytes = v2(command, family, &vec![0; length]);
        assert!(is_incomplete(&bytes[..seen - 1]), "{command:x} {family:x} {length}");
        assert_eq!(error(&bytes[..seen]), expected, "{command:x} {family:x} {length}");
    }
}

#[test]
fn tlvs_are_read_in_their_order_and_unknown_ones_are_skipped() {
    let mut out = b"before".to_vec();
    let addresses = Addresses::between(address("192.0.2.1:1"), address("192.0.2.2:2"));
    Writer::proxy(&mut out, &addresses)
        .tlv(tlv_type::NOOP, b"")
        .tlv(0xee, b"unknown")
        .tlv(tlv_type::UNIQUE_ID, b"4711")
        .finish();
    let (header, length) = parse(&out[6..]).expect("well-formed").expect("complete");
    assert_eq!(length, out.len() - 6);
    let tlvs: Vec<Tlv<'_>> = header.tlvs.clone().collect();
    assert_eq!(tlvs.len(), 3);
    assert_eq!((tlvs[1].kind, tlvs[1].value), (0xee, &b"unknown"[..]));
    assert_eq!(header.tlvs.get(tlv_type::UNIQUE_ID), Some(&b"4711"[..]));
    assert_eq!(header.tlvs.get(tlv_type::SSL), None);
}

#[test]
fn tlv_that_leaves_the_header_is_refused() {
    for tlvs in [&[1][..], &[1, 0], &[1, 0, 1], &[1, 0, 1, 9, 4, 0], &[3, 0, 3, 0, 0, 0], &[1, 0xff, 0xff, 0]]
    {
        let block = [&[0; 12][..], tlvs].concat();
        assert_eq!(error(&v2(0x21, 0x11, &block)), HeaderError::Tlv, "{tlvs:?}");
    }
    // Behind an unspecified family there may be an address of whatever form.
    let bytes = v2(0x21, 0x00, &[1, 0, 1]);
    let (header, _) = parse(&bytes).expect("well-formed").expect("complete");
    assert_eq!(header.tlvs.count(), 0);
}

#[test]
fn checksum_is_verified() {
    assert_eq!(crc32c(&[b""]), 0);
    assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
    assert_eq!(crc32c(&[&[0xff; 32]]), 0x62a8_ab43);

    let mut out = Vec::new();
    let addresses = Addresses::between(address("[2001:db8::1]:1"), address("192.0.2.2:2"));
    Writer::proxy(&mut out, &addresses).tlv(tlv_type::AUTHORITY, b"example.com").finish_with_checksum();
    assert!(matches!(parse(&out), Ok(Some(_))));
    for position in 16..out.len() {
        let mut wrong = out.clone();
        wrong[position] ^= 0x20;
        assert!(
            !matches!(parse(&wrong), Ok(Some((header, _))) if header.tlvs.get(tlv_type::CRC32C).is_some()),
            "{position}"
        );
    }
    let last = out.len() - 1;
    out[last] ^= 1;
    assert_eq!(error(&out), HeaderError::Checksum);
}

#[test]
fn two_checksums_are_refused() {
    let block = [&[0; 12][..], &[3, 0, 4, 0, 0, 0, 0], &[3, 0, 4, 0, 0, 0, 0]].concat();
    assert_eq!(error(&v2(0x21, 0x11, &block)), HeaderError::Tlv);
}

#[test]
fn written_header_never_grows_beyond_the_bound() {
    let mut out = Vec::new();
    let value = vec![7; 1_500];
    let mut writer = Writer::local(&mut out);
    for _ in 0..4 {
        writer = writer.tlv(0xe0, &value);
    }
    writer.finish_with_checksum();
    assert!(out.len() <= HEADER_BYTES_MAX);
    assert!(matches!(parse(&out), Ok(Some((header, _))) if header.command == Command::Local));
}

fn inet() -> impl Strategy<Value = Addresses<'static>> {
    (any::<[u8; 4]>(), any::<[u8; 4]>(), any::<[u16; 2]>()).prop_map(|(source, destination, ports)| {
        Addresses::Inet {
            source: SocketAddrV4::new(Ipv4Addr::from(source), ports[0]),
            destination: SocketAddrV4::new(Ipv4Addr::from(destination), ports[1]),
        }
    })
}

fn inet6() -> impl Strategy<Value = Addresses<'static>> {
    (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<[u16; 2]>()).prop_map(|(source, destination, ports)| {
        Addresses::Inet6 {
            source: SocketAddrV6::new(Ipv6Addr::from(source), ports[0], 0, 0),
            destination: SocketAddrV6::new(Ipv6Addr::from(destination), ports[1], 0, 0),
        }
    })
}

fn addresses() -> impl Strategy<Value = Addresses<'static>> {
    prop_oneof![inet(), inet6(), Just(Addresses::Unspecified)]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_however_it_is_cut(
        addresses in addresses(),
        tlvs in prop::collection::vec((0x40_u8.., prop::collection::vec(any::<u8>(), 0..40)), 0..4),
        form in 0..3,
        payload in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = Vec::new();
        match form {
            0 => write_v1(&mut bytes, &addresses),
            form => {
                let mut writer = Writer::proxy(&mut bytes, &addresses);
                for (kind, value) in &tlvs {
                    writer = writer.tlv(*kind, value);
                }
                if form == 1 { writer.finish() } else { writer.finish_with_checksum() }
            }
        }
        let length = bytes.len();
        bytes.extend_from_slice(&payload);
        for seen in 0..length {
            prop_assert_eq!(parse(&bytes[..seen]), Ok(None), "after {} of {} bytes", seen, length);
        }
        for seen in length..=bytes.len() {
            let (header, consumed) = parse(&bytes[..seen]).expect("well-formed").expect("complete");
            prop_assert_eq!(consumed, length);
            prop_assert_eq!(header.addresses, addresses);
            if form > 0 {
                let known = header.tlvs.filter(|tlv| tlv.kind != tlv_type::CRC32C);
                let read: Vec<_> = known.map(|tlv| (tlv.kind, tlv.value.to_vec())).collect();
                prop_assert_eq!(&read, &tlvs);
            }
        }
    }

    #[test]
    fn any_bytes_get_the_same_answer_from_the_moment_there_is_one(
        start in prop_oneof![Just(&b"PROXY TCP4 1.2.3.4 "[..]), Just(&b"PROXY "[..]), Just(SIGNATURE), Just(&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"[..]), Just(&b""[..])],
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [start, &rest].concat();
        let mut answer = None;
        for seen in 0..=bytes.len() {
            let now = parse(&bytes[..seen]);
            if let Ok(Some((_, length))) = &now {
                prop_assert!(*length <= seen);
            }
            match &answer {
                None if now != Ok(None) => answer = Some(now),
                None => {}
                Some(before) => prop_assert_eq!(before, &now),
            }
        }
    }
}
