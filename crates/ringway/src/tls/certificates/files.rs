//! Where certificates are, and which version of their files is meant.

use std::io;
use std::path::{Path, PathBuf};

/// Certificates of a directory: ten times what this is measured with.
pub(super) const DIRECTORY_CERTIFICATES_MAX: usize = 1_000_000;

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// The certificate and those between it and a root, in PEM, in this order.
    pub chain: PathBuf,
    /// Its private key, in PEM. May be the same file.
    pub key: PathBuf,
    /// An answer of its issuer's OCSP server, in DER.
    pub ocsp: Option<PathBuf>,
}

impl CertificateFiles {
    /// All of them.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let key = (self.key != self.chain).then_some(&*self.key);
        std::iter::once(&*self.chain).chain(key).chain(self.ocsp.as_deref())
    }
}

/// The names that tools give to a chain and a key in a directory of their own: certbot's, and those of Kubernetes.
const PAIRS: [(&str, &str); 2] = [("fullchain.pem", "privkey.pem"), ("tls.crt", "tls.key")];

/// The certificates in a directory, by their names.
///
/// `NAME.pem` or `NAME.crt` is a chain, its key is in `NAME.key`, or else in the same file; `NAME.ocsp` is a staple. So is
/// each directory in it that has the files of certbot (`fullchain.pem`, `privkey.pem`) or of a secret of Kubernetes
/// (`tls.crt`, `tls.key`); the directory may be such a one itself. What begins with a dot is passed over.
///
/// # Errors
/// When the directory cannot be read, or has more than a million certificates.
pub fn certificates_in(directory: &Path) -> io::Result<Vec<CertificateFiles>> {
    let mut found: Vec<CertificateFiles> = pair_in(directory).into_iter().collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let mut names: Vec<(String, bool)> = Vec::new();
    for entry in directory.read_dir()? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // What a link leads to counts.
        let is_directory = match entry.file_type()? {
            kind if kind.is_symlink() => entry.path().is_dir(),
            kind => kind.is_dir(),
        };
        if !name.starts_with('.') {
            names.push((name, is_directory));
        }
    }
    names.sort_unstable();
    let is_file = |name: &str| {
        names.binary_search_by(|(other, _)| other.as_str().cmp(name)).is_ok_and(|at| !names[at].1)
    };
    for (name, is_directory) in &names {
        if *is_directory {
            found.extend(pair_in(&directory.join(name)));
        } else if let Some((stem, "pem" | "crt")) = name.rsplit_once('.') {
            let beside = |extension: &str| {
                let name = format!("{stem}.{extension}");
                is_file(&name).then(|| directory.join(name))
            };
            let chain = directory.join(name);
            let key = beside("key").unwrap_or_else(|| chain.clone());
            found.push(CertificateFiles { chain, key, ocsp: beside("ocsp") });
        }
        if found.len() > DIRECTORY_CERTIFICATES_MAX {
            return Err(io::Error::other("there are more than 1,000,000 certificates in it"));
        }
    }
    Ok(found)
}

fn pair_in(directory: &Path) -> Option<CertificateFiles> {
    let pair = |(chain, key): (&str, &str)| {
        let files = CertificateFiles { chain: directory.join(chain), key: directory.join(key), ocsp: None };
        files.chain.is_file().then_some(files)
    };
    PAIRS.into_iter().find_map(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_what_certbot_kubernetes_and_people_put_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let base = directory.path();
        for name in [
            "b.example.com/fullchain.pem",
            "b.example.com/privkey.pem",
            "k8s/tls.crt",
            "k8s/tls.key",
            "k8s/ca.crt",
            "a.pem",
            "a.key",
            "a.ocsp",
            "both.crt",
            "README",
            ".hidden.pem",
            "empty/other.pem",
            "..data/tls.crt",
        ] {
            let path = base.join(name);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("it is made");
            std::fs::write(path, "").expect("it is written");
        }
        let files = |chain: &str, key: &str, ocsp: Option<&str>| CertificateFiles {
            chain: base.join(chain),
            key: base.join(key),
            ocsp: ocsp.map(|name| base.join(name)),
        };
        let expected = [
            files("a.pem", "a.key", Some("a.ocsp")),
            files("b.example.com/fullchain.pem", "b.example.com/privkey.pem", None),
            files("both.crt", "both.crt", None),
            files("k8s/tls.crt", "k8s/tls.key", None),
        ];
        assert_eq!(certificates_in(base).expect("it is read"), expected);
        assert_eq!(certificates_in(&base.join("k8s")).expect("it is read"), expected[3..]);
        assert!(certificates_in(&base.join("none")).is_err());
    }
}
