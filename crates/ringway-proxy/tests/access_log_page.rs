//! The reference page of the access log names every reason that there is, and no other.
#![forbid(unsafe_code)]

use ringway::tls::FailureKind;
use ringway_proxy::session::CloseReason;

#[test]
fn every_close_reason_is_on_the_page_and_no_other() {
    let page = include_str!("../../../docs/reference/access-log.md");
    let (_, table) = page.split_once("## Why a connection ended").expect("the page has that section");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
    for reason in CloseReason::ALL {
        let (by, phase, why) = (reason.initiator().as_str(), reason.phase().as_str(), reason.cause());
        let start = format!("| `{by}` | `{phase}` | `{why}` | ");
        assert!(rows.iter().any(|row| row.starts_with(&start)), "not on the page: {start}");
    }
    assert_eq!(rows.len(), CloseReason::ALL.len());
}

#[test]
fn every_reason_of_a_failed_handshake_of_a_client_is_on_the_page() {
    let page = include_str!("../../../docs/reference/access-log.md");
    let row = page.lines().find(|line| line.starts_with("| `tls_failure` |")).expect("the page has it");
    for kind in FailureKind::ALL {
        let word = format!("`{}`", kind.as_str());
        // Only servers are asked for a name.
        assert_eq!(row.contains(&word), kind != FailureKind::PeerCertificateMisnamed, "{word}");
    }
}
