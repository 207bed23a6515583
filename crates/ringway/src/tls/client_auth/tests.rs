//! What makes a policy, and what makes it another one.

use std::path::PathBuf;

use rustls::pki_types::UnixTime;
use testkit::certificates::{Authority, Issued, Request};

use super::*;

struct Rig {
    directory: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).expect("it is written");
        path
    }
}

fn verify(policy: &ClientPolicy, issued: &Issued) -> Result<(), rustls::Error> {
    let certificate = CertificateDer::from_pem_slice(issued.chain.as_bytes()).expect("it is one");
    policy.verifier().verify_client_cert(&certificate, &[], UnixTime::now()).map(drop)
}

#[test]
fn who_has_a_certificate_of_the_authority_that_is_not_revoked_may_come() {
    let rig = Rig::new();
    let (authority, other) = (Authority::new("ours"), Authority::new("another"));
    let (good, revoked, foreign) =
        (authority.issue_client("a"), authority.issue_client("b"), other.issue_client("a"));
    let old = authority.issue_as(&Request {
        common_name: "old",
        is_client: true,
        days: [(2020, 1, 1), (2021, 1, 1)],
        ..Request::default()
    });
    let server = authority.issue(&["www.example.com"]);
    let ca = rig.write("ca.pem", authority.pem());
    let crl = rig.write("crl.pem", &authority.revoke(&[&revoked]));
    let policy = ClientPolicy::read(Demand::Required, &ca, &[crl]).expect("it can be used");
    assert_eq!(verify(&policy, &good), Ok(()));
    for (who, issued) in [("revoked", &revoked), ("foreign", &foreign), ("old", &old), ("server", &server)] {
        assert!(matches!(verify(&policy, issued), Err(rustls::Error::InvalidCertificate(_))), "{who}");
    }
    let policy = ClientPolicy::read(Demand::Required, &ca, &[]).expect("it can be used");
    assert_eq!(verify(&policy, &revoked), Ok(()), "without a list nobody is");
}

#[test]
fn a_list_of_another_authority_does_not_say_that_somebody_is_not_revoked() {
    let rig = Rig::new();
    let (authority, other) = (Authority::new("ours"), Authority::new("another"));
    let ca = rig.write("ca.pem", authority.pem());
    let crl = rig.write("crl.pem", &other.revoke(&[]));
    let policy = ClientPolicy::read(Demand::Optional, &ca, &[crl]).expect("it can be used");
    assert!(verify(&policy, &authority.issue_client("a")).is_err());
}

#[test]
fn each_change_of_what_is_demanded_is_another_policy_and_another_order_is_not() {
    let rig = Rig::new();
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let client = first.issue_client("a");
    let (pem, other) = (first.pem(), second.pem());
    let one = rig.write("one.pem", pem);
    let both = rig.write("both.pem", &format!("{pem}{other}"));
    let turned = rig.write("turned.pem", &format!("{other}{pem}"));
    let crl = rig.write("crl.pem", &first.revoke(&[]));
    let newer = rig.write("newer.pem", &first.revoke(&[&client]));
    let digest = |demand, ca: &PathBuf, crls: &[&PathBuf]| {
        let crls: Vec<PathBuf> = crls.iter().map(|path| (*path).clone()).collect();
        *ClientPolicy::read(demand, ca, &crls).expect("it can be used").digest()
    };
    let all = [
        digest(Demand::Required, &one, &[]),
        digest(Demand::Optional, &one, &[]),
        digest(Demand::Required, &both, &[]),
        digest(Demand::Required, &one, &[&crl]),
        digest(Demand::Required, &one, &[&newer]),
        digest(Demand::Required, &one, &[&crl, &newer]),
    ];
    for (index, digest) in all.iter().enumerate() {
        assert!(!all[..index].contains(digest), "{index}");
    }
    assert_eq!(digest(Demand::Required, &turned, &[]), all[2]);
    assert_eq!(digest(Demand::Required, &one, &[&newer, &crl]), all[5]);
}

#[test]
fn every_file_that_is_of_no_use_is_told() {
    let rig = Rig::new();
    let nothing = rig.write("nothing.pem", "nothing");
    let gone = rig.directory.path().join("gone.pem");
    let faults =
        ClientPolicy::read(Demand::Required, &nothing, &[gone.clone(), nothing.clone()]).expect_err("none");
    let told: Vec<(&Path, bool, &str)> =
        faults.iter().map(|fault| (&*fault.path, fault.is_revocation_list, &*fault.problem)).collect();
    let missing = "it cannot be read: No such file or directory (os error 2)";
    assert_eq!(
        told,
        [
            (&*nothing, false, "there is no certificate in it (PEM)"),
            (&*gone, true, missing),
            (&*nothing, true, "there is no list of revocations in it (PEM or DER)"),
        ]
    );
}

#[test]
fn a_list_in_der_is_as_good() {
    let rig = Rig::new();
    let authority = Authority::new("ours");
    let revoked = authority.issue_client("b");
    let pem = authority.revoke(&[&revoked]);
    let der = CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).expect("it is one");
    let path = rig.directory.path().join("crl.der");
    std::fs::write(&path, &*der).expect("it is written");
    let ca = rig.write("ca.pem", authority.pem());
    let policy = ClientPolicy::read(Demand::Required, &ca, &[path]).expect("it can be used");
    assert!(verify(&policy, &revoked).is_err());
    assert!(verify(&policy, &authority.issue_client("a")).is_ok());
}

#[test]
fn a_client_is_called_by_its_common_name_or_else_by_another_one() {
    let authority = Authority::new("ours");
    let name = |request: &Request<'_>| {
        let issued = authority.issue_as(request);
        let certificate = CertificateDer::from_pem_slice(issued.chain.as_bytes()).expect("it is one");
        name_of_client(&certificate)
    };
    let both = Request { common_name: "alice", names: &["a.example.com"], ..Request::default() };
    assert_eq!(name(&both).as_deref(), Some("alice"));
    assert_eq!(name(&Request { common_name: "", ..both }).as_deref(), Some("a.example.com"));
    assert_eq!(name(&Request::default()), None);
    assert_eq!(name(&Request { common_name: &"a".repeat(256), ..both }), None);
    assert_eq!(name_of_client(b"nothing"), None);
}
