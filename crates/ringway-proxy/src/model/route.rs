//! Where a client goes by what it says: the routes of an app.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{App, Network, Pattern, Termination};

/// `[[app.route]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Unique in its app, not empty.
    pub name: String,
    /// Whose clients it takes.
    pub rule: Rule,
    /// Where they go, and how: an app without frontends.
    pub pool: Arc<App>,
}

/// What a client has to be for a route: everything that is given. An empty list asks nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// One of these speaks.
    pub protocols: Protocols,
    /// It asks for a host of these: by the server name of TLS, or by the host of HTTP/1.
    pub server_names: Vec<NamePattern>,
    /// It is called so by its certificate, which was verified where TLS ends here; never [`NamePattern::Below`].
    pub client_names: Vec<NamePattern>,
    /// It speaks one of these application protocols within TLS.
    pub alpn: Vec<String>,
    /// Its request of HTTP/1 has one of these paths.
    pub paths: Vec<PathPattern>,
    /// It comes from one of these networks.
    pub source: Vec<Network>,
    /// It connected to an address in one of these networks: its own, or that of its PROXY header.
    pub destination: Vec<Network>,
    /// It connected to one of these ports: its own, or that of its PROXY header.
    pub destination_ports: Vec<RangeInclusive<u16>>,
}

impl Rule {
    /// Whether nothing but a client's first bytes can say that it fits.
    pub fn needs_bytes(&self) -> bool {
        !(self.protocols.is_any()
            && self.server_names.is_empty()
            && self.client_names.is_empty()
            && self.alpn.is_empty()
            && self.paths.is_empty())
    }
}

/// A host name, or many.
#[derive(Clone, Debug, PartialEq)]
pub enum NamePattern {
    /// This one, in lower case.
    Exact(String),
    /// Those that end in a dot and this, in lower case, with a label or more before it.
    Below(String),
    /// Those that match as a whole.
    Pattern {
        /// As it was written.
        text: String,
        /// Anchored at both ends.
        pattern: Pattern,
    },
}

impl NamePattern {
    /// Whether it means `name`, which is in lower case.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(own) => own == name,
            Self::Below(own) => {
                name.strip_suffix(own.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            Self::Pattern { pattern, .. } => pattern.matches(name.as_bytes()),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Pattern { text, .. } => write!(f, "~{text}"),
        }
    }
}

/// A path, or many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// This one.
    Exact(String),
    /// Those that begin like this.
    Prefix(String),
}

impl PathPattern {
    /// Whether it means `path`, as it was sent and without its query.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(own) => own == path,
            Self::Prefix(own) => path.starts_with(own.as_str()),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(path) => write!(f, "{path}*"),
        }
    }
}

/// What a client speaks, as far as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// TLS.
    Tls,
    /// HTTP/1, an upgrade to WebSocket included.
    Http1,
    /// HTTP/2 without TLS, by its preface.
    Http2,
    /// SSH.
    Ssh,
    /// PostgreSQL, with its request for TLS or without.
    PostgreSql,
    /// An upgrade of HTTP/1 to WebSocket.
    WebSocket,
    /// Nothing came: it waits for the server to speak first.
    Silent,
    /// Something else.
    Other,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Tls,
        Self::Http1,
        Self::Http2,
        Self::Ssh,
        Self::PostgreSql,
        Self::WebSocket,
        Self::Silent,
        Self::Other,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Ssh => "ssh",
            Self::PostgreSql => "postgresql",
            Self::WebSocket => "websocket",
            Self::Silent => "silent",
            Self::Other => "other",
        }
    }

    /// What the word stands for.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|client| client.as_str() == word)
    }
}

/// Some of what a client can speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Protocols(u8);

impl Protocols {
    /// Whether nothing is named, which asks nothing.
    pub fn is_any(self) -> bool {
        self.0 == 0
    }

    /// Names another one.
    pub fn add(&mut self, client: Client) {
        self.0 |= 1 << client as u8;
    }

    /// Whether it is named. An upgrade to WebSocket is a request of HTTP/1 too.
    pub fn contains(self, client: Client) -> bool {
        let named = |client: Client| self.0 & 1 << client as u8 != 0;
        named(client) || client == Client::WebSocket && named(Client::Http1)
    }

    /// Those that are named.
    pub fn iter(self) -> impl Iterator<Item = Client> {
        Client::ALL.into_iter().filter(move |client| self.0 & 1 << *client as u8 != 0)
    }
}

/// `[app.tls]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RulesOfTls {
    /// What becomes of a client whose hello cannot be read.
    pub unreadable: Unreadable,
    /// By what TLS is ended here; `None`: it is passed on.
    pub termination: Option<Arc<Termination>>,
}

/// `app.tls.unreadable`.
#[derive(Clone, Debug, PartialEq)]
pub enum Unreadable {
    /// It is closed.
    Refuse,
    /// It goes here: to an app without frontends.
    Pool(Arc<App>),
}

impl Unreadable {
    /// The name of the route that its clients take.
    pub const NAME: &'static str = "unreadable";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_a_label_or_more_and_not_for_none() {
        let below = NamePattern::Below("example.com".into());
        assert!(below.matches("a.example.com") && below.matches("a.b.example.com"));
        for name in ["example.com", ".example.com", "anexample.com", "example.com.evil.test", "a.example.co"]
        {
            assert!(!below.matches(name), "{name}");
        }
    }

    #[test]
    fn an_upgrade_is_a_request_too_and_a_request_no_upgrade() {
        let mut http = Protocols::default();
        http.add(Client::Http1);
        assert!(
            http.contains(Client::WebSocket) && http.contains(Client::Http1) && !http.contains(Client::Tls)
        );
        let mut upgrade = Protocols::default();
        upgrade.add(Client::WebSocket);
        assert!(upgrade.contains(Client::WebSocket) && !upgrade.contains(Client::Http1));
    }
}
