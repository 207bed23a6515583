//! What the rows of TLS ask of a proxy: a certificate that is made for the run, and lines of each configuration.
//!
//! All are told TLS 1.3 and one key exchange; clients offer nothing else, and AES-128-GCM only. The number of tickets is
//! what each of them sends by default.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// The server that clients ask for; the load's default.
pub(super) const SERVER_NAME: &str = "bench.example";

/// What a proxy does with TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Edge {
    /// Nothing: it does not look.
    #[default]
    Plain,
    /// Routes by the name in the hello, and passes it on.
    Passthrough,
    /// Ends it, with X25519.
    Terminated,
    /// Ends it, with X25519MLKEM768.
    TerminatedHybrid,
}

impl Edge {
    pub(super) fn is_terminated(self) -> bool {
        matches!(self, Self::Terminated | Self::TerminatedHybrid)
    }

    /// The key exchange, by the name that OpenSSL and BoringSSL give it.
    fn group(self) -> &'static str {
        if self == Self::TerminatedHybrid { "X25519MLKEM768" } else { "X25519" }
    }

    /// What stands behind HAProxy's address, between its lines, and before the name of its backend.
    pub(super) fn haproxy(self, certificate: &Certificate) -> (String, &'static str, &'static str) {
        match self {
            Self::Plain => (String::new(), "", "default_backend bench"),
            Self::Passthrough => (
                String::new(),
                "  tcp-request inspect-delay 5s\n  tcp-request content accept if { req_ssl_hello_type 1 }\n",
                "use_backend bench if { req_ssl_sni -i bench.example }",
            ),
            Self::Terminated | Self::TerminatedHybrid => (
                format!(
                    " ssl crt {} ssl-min-ver TLSv1.3 curves {}",
                    certificate.together.display(),
                    self.group()
                ),
                "",
                "default_backend bench",
            ),
        }
    }

    /// What nginx has before its server, what stands behind its address, and where it passes connections on.
    pub(super) fn nginx(self, certificate: &Certificate) -> (String, String, &'static str) {
        match self {
            Self::Plain => (String::new(), ";".into(), "bench"),
            Self::Passthrough => (
                format!("  map $ssl_preread_server_name $routed {{\n    {SERVER_NAME} bench;\n  }}\n"),
                "; ssl_preread on;".into(),
                "$routed",
            ),
            Self::Terminated | Self::TerminatedHybrid => (
                String::new(),
                format!(
                    " ssl; ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3; ssl_ecdh_curve {};",
                    certificate.chain.display(),
                    certificate.key.display(),
                    self.group()
                ),
                "bench",
            ),
        }
    }

    /// Puts it into Envoy's listener.
    pub(super) fn envoy(self, certificate: &Certificate, listener: &mut Value) {
        match self {
            Self::Plain => {}
            Self::Passthrough => {
                listener["listener_filters"] = json!([{
                    "name": "envoy.filters.listener.tls_inspector",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
                    },
                }]);
                listener["filter_chains"][0]["filter_chain_match"] = json!({"server_names": [SERVER_NAME]});
            }
            Self::Terminated | Self::TerminatedHybrid => {
                listener["filter_chains"][0]["transport_socket"] = json!({
                    "name": "envoy.transport_sockets.tls",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                        "common_tls_context": {
                            "tls_params": {
                                "tls_minimum_protocol_version": "TLSv1_3",
                                "tls_maximum_protocol_version": "TLSv1_3",
                                "ecdh_curves": [self.group()],
                            },
                            "tls_certificates": [{
                                "certificate_chain": {"filename": certificate.chain},
                                "private_key": {"filename": certificate.key},
                            }],
                        },
                    },
                });
            }
        }
    }

    /// What Ringway's app has, and in which table its backends stand.
    pub(super) fn ringway(self, certificate: &Certificate) -> (String, String) {
        match self {
            Self::Plain => (String::new(), String::new()),
            Self::Passthrough => (
                "[app.tls]\nmode = \"passthrough\"\n".into(),
                format!("[[app.route]]\nserver_names = [\"{SERVER_NAME}\"]\n"),
            ),
            Self::Terminated | Self::TerminatedHybrid => {
                let (chain, key) = (certificate.chain.display(), certificate.key.display());
                let certificates = format!("certificates = [{{ chain = \"{chain}\", key = \"{key}\" }}]");
                (format!("[app.tls]\nmode = \"terminate\"\n{certificates}\n"), String::new())
            }
        }
    }
}

/// The files of a certificate for [`SERVER_NAME`] that it signed itself, with a key on P-256.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    /// The two in one file, as HAProxy takes them.
    together: PathBuf,
}

impl Certificate {
    /// Where one is that [`Self::make`] makes.
    pub(super) fn within(directory: &Path) -> Self {
        let [chain, key, together] = ["chain.pem", "key.pem", "both.pem"].map(|name| directory.join(name));
        Self { chain, key, together }
    }

    pub(super) fn make(&self) -> Result<(), String> {
        let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()]);
        let made = made.map_err(|error| format!("no certificate: {error}"))?;
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let write = |path: &Path, text: &str| fs::write(path, text);
        let written = write(&self.chain, &chain)
            .and_then(|()| write(&self.key, &key))
            .and_then(|()| write(&self.together, &(chain + &key)));
        written.map_err(|error: io::Error| format!("no certificate: {error}"))
    }
}

/// Why a program that is linked with OpenSSL does not have ML-KEM, if so. `question`: the argument that makes it tell.
pub(super) fn lacks_ml_kem(program: &Path, question: &str) -> Option<String> {
    let output = Command::new(program).arg(question).output().ok()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let (major, minor) = openssl_version(&text)?;
    // Came with 3.5.
    ((major, minor) < (3, 5)).then(|| format!("its OpenSSL {major}.{minor} has no X25519MLKEM768"))
}

/// The version that is named last: the one it runs with, behind the one it was built with.
fn openssl_version(text: &str) -> Option<(u32, u32)> {
    let versions = text.split("OpenSSL ").filter_map(|rest| {
        let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    });
    versions.last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_openssl_is_the_one_it_runs_with() {
        let haproxy = "Built with OpenSSL version : OpenSSL 3.0.22 25 Aug 2026\n\
                       Running on OpenSSL version : OpenSSL 3.5.1 27 Jan 2026\nOpenSSL library supports SNI : yes\n";
        assert_eq!(openssl_version(haproxy), Some((3, 5)));
        let nginx = "built with OpenSSL 3.0.22 25 Aug 2026 (running with OpenSSL 3.0.19 27 Jan 2026)\n";
        assert_eq!(openssl_version(nginx), Some((3, 0)));
        assert_eq!(openssl_version("built with BoringSSL\n"), None);
    }

    #[test]
    fn a_proxy_that_does_not_look_is_told_nothing_of_tls() {
        let certificate = Certificate::within(Path::new("/tmp"));
        assert_eq!(Edge::Plain.ringway(&certificate), Default::default());
        assert_eq!(Edge::Plain.haproxy(&certificate), (String::new(), "", "default_backend bench"));
        let mut listener = json!({});
        Edge::Plain.envoy(&certificate, &mut listener);
        assert_eq!(listener, json!({}));
    }
}
