//! The configurations of Ringway in a soak: two that take turns, and one of very many apps.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

/// What the two configurations of the reload soak share.
#[derive(Clone, Debug)]
pub(super) struct Relay {
    pub(super) engine: String,
    pub(super) workers: usize,
    pub(super) admin: SocketAddr,
    pub(super) listen: SocketAddr,
    /// Where the app listens that comes and goes.
    pub(super) extra: SocketAddr,
    pub(super) backends: Vec<SocketAddr>,
}

impl Relay {
    /// One of the two: the second has another weight for the first backend, and one app more.
    pub(super) fn text(&self, is_second: bool) -> String {
        let mut text = head(self.workers, &self.engine, self.admin);
        let _ = write!(text, "\n[[app]]\nname = \"soak\"\nlisten = [\"{}\"]\nbackends = [\n", self.listen);
        for (place, backend) in self.backends.iter().enumerate() {
            let weight = if is_second && place == 0 { 2 } else { 1 };
            let _ = writeln!(text, "  {{ address = \"{backend}\", weight = {weight} }},");
        }
        text += "]\n\n[app.timeouts]\nidle = \"1h\"\n\n[app.health]\ncheck = \"none\"\n";
        if let (true, Some(backend)) = (is_second, self.backends.first()) {
            let _ = write!(
                text,
                "\n[[app]]\nname = \"extra\"\nlisten = [\"{}\"]\nbackends = [\"{backend}\"]\n\n\
                 [app.health]\ncheck = \"none\"\n",
                self.extra
            );
        }
        text
    }
}

/// So many apps on a loopback address each; the weight of a backend of the middle one is `weight`.
pub(super) fn many_apps(count: usize, engine: &str, admin: SocketAddr, weight: u8) -> String {
    // A worker has a listening socket of its own in each app: a second one would need 20,000.
    let mut text = head(1, engine, admin);
    for app in 0..count {
        let weight = if app == count / 2 { weight } else { 1 };
        let _ = write!(
            text,
            "\n[[app]]\nname = \"app-{app}\"\nlisten = [\"{}\"]\n\
             backends = [{{ address = \"127.0.0.1:9\", weight = {weight} }}, \"127.0.0.2:9\"]\n\
             [app.health]\ncheck = \"none\"\n",
            address_of(app)
        );
    }
    text
}

/// Where an app of the many listens: all of 127/8 is this machine.
pub(super) fn address_of(app: usize) -> SocketAddr {
    let [high, low] = [app / 250, app % 250 + 1].map(|part| u8::try_from(part).unwrap_or(u8::MAX));
    (Ipv4Addr::new(127, 9, high, low), 7900).into()
}

fn head(workers: usize, engine: &str, admin: SocketAddr) -> String {
    format!(
        "[server]\nworkers = {workers}\nengine = \"{engine}\"\naccess_log = false\nlog_level = \"warn\"\n\n\
         [admin]\nlisten = \"{admin}\"\n"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn relay() -> Relay {
        Relay {
            engine: "epoll".into(),
            workers: 2,
            admin: address(1),
            listen: address(2),
            extra: address(3),
            backends: vec![address(4), address(5)],
        }
    }

    #[test]
    fn the_two_configurations_differ_in_a_weight_and_an_app() {
        let (first, second) = (relay().text(false), relay().text(true));
        assert_eq!((first.matches("weight = 2").count(), second.matches("weight = 2").count()), (0, 1));
        assert_eq!((first.matches("[[app]]").count(), second.matches("[[app]]").count()), (1, 2));
        assert!(second.contains("127.0.0.1:3") && !first.contains("127.0.0.1:3"));
    }

    #[test]
    fn each_of_ten_thousand_apps_has_an_address_of_its_own() {
        let addresses: BTreeSet<_> = (0..10_000).map(address_of).collect();
        assert_eq!(addresses.len(), 10_000);
    }

    #[test]
    fn one_app_of_many_is_changed() {
        let (old, new) = (many_apps(9, "epoll", address(1), 1), many_apps(9, "epoll", address(1), 7));
        let differing = old.lines().zip(new.lines()).filter(|(old, new)| old != new).count();
        assert_eq!(differing, 1);
    }
}
