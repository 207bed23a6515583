//! Certificates for tests: authorities, what they issue, and what they revoke.

use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

/// Who issues certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    next_list: AtomicU64,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate, in PEM.
    pub chain: String,
    /// Its key, in PEM.
    pub key: String,
    serial: SerialNumber,
}

/// What a certificate says.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The hosts that it is for; also IP addresses.
    pub names: &'a [&'a str],
    /// Its common name; none if it is empty.
    pub common_name: &'a str,
    /// Its first and last day: year, month, day.
    pub days: [(i32, u8, u8); 2],
    /// Whether its key is for Ed25519, in the place of ECDSA.
    pub is_ed25519: bool,
    /// Whether it is a client's.
    pub is_client: bool,
}

impl Default for Request<'_> {
    fn default() -> Self {
        let days = [(2020, 1, 1), (2100, 1, 1)];
        Self { names: &[], common_name: "", days, is_ed25519: false, is_client: false }
    }
}

/// Numbers of certificates, which no two in a process share.
static SERIALS: AtomicU64 = AtomicU64::new(1);

impl Authority {
    /// A new one of this name.
    ///
    /// # Panics
    /// If there are no random numbers.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key is made");
        let pem = params.self_signed(&key).expect("it is signed").pem();
        Self { issuer: Issuer::new(params, key), pem, next_list: AtomicU64::new(1) }
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A server's certificate for these hosts.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_as(&Request { names, ..Request::default() })
    }

    /// A client's certificate with this common name.
    pub fn issue_client(&self, common_name: &str) -> Issued {
        self.issue_as(&Request { common_name, is_client: true, ..Request::default() })
    }

    /// A certificate that says this.
    ///
    /// # Panics
    /// If a name is none.
    pub fn issue_as(&self, request: &Request<'_>) -> Issued {
        let names: Vec<String> = request.names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("these are names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !request.common_name.is_empty() {
            params.distinguished_name.push(DnType::CommonName, request.common_name);
        }
        let [first, last] = request.days;
        params.not_before = date_time_ymd(first.0, first.1, first.2);
        params.not_after = date_time_ymd(last.0, last.1, last.2);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match request.is_client {
            true => ExtendedKeyUsagePurpose::ClientAuth,
            false => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        let serial = SerialNumber::from(SERIALS.fetch_add(1, Ordering::Relaxed));
        params.serial_number = Some(serial.clone());
        let algorithm = if request.is_ed25519 { &PKCS_ED25519 } else { &PKCS_ECDSA_P256_SHA256 };
        let key = KeyPair::generate_for(algorithm).expect("a key is made");
        let chain = params.signed_by(&key, &self.issuer).expect("it is signed").pem();
        Issued { chain, key: key.serialize_pem(), serial }
    }

    /// Its list of revocations, with these on it, in PEM.
    ///
    /// # Panics
    /// Never, as its key may sign lists.
    pub fn revoke(&self, revoked: &[&Issued]) -> String {
        let revoked = revoked.iter().map(|issued| RevokedCertParams {
            serial_number: issued.serial.clone(),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(self.next_list.fetch_add(1, Ordering::Relaxed)),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).expect("it is signed").pem().expect("it is written")
    }
}
