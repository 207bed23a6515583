//! Listening sockets that were passed to the process at its start, and which frontend each of them serves.
//!
//! A socket belongs to the frontend, or the admin interface, whose address it is bound to. One that is bound elsewhere goes
//! by its name: that of an app, for the first of its frontends that has no socket yet, or `admin`. All are kept as long
//! as the process lives, so that a frontend which a reload removes and brings back has its socket again.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::BorrowedFd;

use ringway::{Listener, SocketAddress};

use crate::model;

/// The name of the socket for the admin interface.
const ADMIN: &str = "admin";

/// What was passed.
#[derive(Debug, Default)]
pub struct PassedSockets(Vec<PassedSocket>);

/// A listening socket that was passed to the process.
#[derive(Debug)]
pub struct PassedSocket {
    name: String,
    listener: Listener,
}

/// Whom a passed socket serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose<'a> {
    Admin,
    Frontend { app: &'a str, index: usize },
}

/// The passed sockets of a configuration.
#[derive(Debug)]
pub struct Assignment<'a> {
    sockets: &'a [PassedSocket],
    places: HashMap<(&'a str, usize), usize>,
    admin: Option<usize>,
}

impl fmt::Display for PassedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.listener.address())
    }
}

impl PassedSocket {
    /// A socket and the name that it was passed with.
    pub fn new(name: impl Into<String>, listener: Listener) -> Self {
        Self { name: name.into(), listener: listener.held_elsewhere() }
    }

    fn is_bound_to(&self, address: &SocketAddress, dual_stack: bool) -> bool {
        self.listener.address() == address && self.listener.is_dual_stack() == dual_stack
    }
}

impl FromIterator<PassedSocket> for PassedSockets {
    fn from_iter<I: IntoIterator<Item = PassedSocket>>(sockets: I) -> Self {
        Self(sockets.into_iter().collect())
    }
}

impl PassedSockets {
    /// Their names and their descriptors, for another process.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.0.iter().filter_map(|passed| Some((passed.name.as_str(), passed.listener.descriptor()?)))
    }

    /// Which of them serves what in a configuration.
    pub fn assign<'a>(&'a self, config: &'a model::Config) -> Assignment<'a> {
        let mut assignment = Assignment { sockets: &self.0, places: HashMap::new(), admin: None };
        if !self.0.is_empty() {
            assignment.fill(config);
        }
        assignment
    }
}

impl<'a> Assignment<'a> {
    fn fill(&mut self, config: &'a model::Config) {
        let mut left: Vec<usize> = Vec::new();
        for (socket, passed) in self.sockets.iter().enumerate() {
            match by_address(passed, config) {
                Some(purpose) if self.is_free(purpose) => self.take(purpose, socket),
                _ => left.push(socket),
            }
        }
        for socket in left {
            if let Some(purpose) = self.by_name(&self.sockets[socket].name, config) {
                self.take(purpose, socket);
            }
        }
    }

    fn by_name(&self, name: &str, config: &'a model::Config) -> Option<Purpose<'a>> {
        if name == ADMIN && config.admin.is_some() && self.admin.is_none() {
            return Some(Purpose::Admin);
        }
        let app = config.apps.iter().find(|app| app.name == name)?;
        let purposes = (0..app.frontends.len()).map(|index| Purpose::Frontend { app: &app.name, index });
        purposes.into_iter().find(|purpose| self.is_free(*purpose))
    }

    fn is_free(&self, purpose: Purpose<'a>) -> bool {
        match purpose {
            Purpose::Admin => self.admin.is_none(),
            Purpose::Frontend { app, index } => !self.places.contains_key(&(app, index)),
        }
    }

    fn take(&mut self, purpose: Purpose<'a>, socket: usize) {
        match purpose {
            Purpose::Admin => self.admin = Some(socket),
            Purpose::Frontend { app, index } => drop(self.places.insert((app, index), socket)),
        }
    }

    /// A handle to the socket of the frontend at this place of an app. None, too, when descriptors ran out: its address
    /// is then bound as if nothing had been passed.
    pub fn of_frontend(&self, app: &str, index: usize) -> Option<Listener> {
        self.handle(*self.places.get(&(app, index))?)
    }

    /// A handle to the socket of the admin interface.
    pub fn of_admin(&self) -> Option<Listener> {
        self.handle(self.admin?)
    }

    fn handle(&self, socket: usize) -> Option<Listener> {
        self.sockets[socket].listener.try_clone().ok()
    }

    /// Every socket, and the app that it serves, `admin`, or nothing.
    pub fn uses(&self) -> impl Iterator<Item = (&'a PassedSocket, Option<&'a str>)> {
        let mut uses: Vec<Option<&str>> = vec![None; self.sockets.len()];
        for ((app, _), socket) in &self.places {
            uses[*socket] = Some(app);
        }
        if let Some(socket) = self.admin {
            uses[socket] = Some(ADMIN);
        }
        self.sockets.iter().zip(uses)
    }

    /// Those that serve nothing.
    pub fn unused(&self) -> impl Iterator<Item = &'a PassedSocket> {
        self.uses().filter(|(_, purpose)| purpose.is_none()).map(|(socket, _)| socket)
    }
}

fn by_address<'a>(passed: &PassedSocket, config: &'a model::Config) -> Option<Purpose<'a>> {
    if config.admin.as_ref().is_some_and(|admin| passed.is_bound_to(&admin.listen, false)) {
        return Some(Purpose::Admin);
    }
    config.apps.iter().find_map(|app| {
        let is_here = |frontend: &model::Frontend| passed.is_bound_to(&frontend.address, frontend.dual_stack);
        let index = app.frontends.iter().position(is_here)?;
        Some(Purpose::Frontend { app: &app.name, index })
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use ringway::ListenOptions;

    use super::*;

    fn socket(name: &str) -> PassedSocket {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let listener = Listener::bind(&any.into(), &ListenOptions::default()).expect("a port");
        PassedSocket::new(name, listener)
    }

    fn app(name: &str, addresses: &[&SocketAddress]) -> model::App {
        let frontends = addresses.iter().map(|address| model::Frontend::new("f", (*address).clone()));
        model::App { frontends: frontends.collect(), ..model::App::new(name) }
    }

    fn config(admin: Option<&SocketAddress>, apps: Vec<model::App>) -> model::Config {
        let admin = admin.map(|listen| model::Admin { listen: listen.clone() });
        model::Config { server: model::Server::default(), admin, apps, demo: false }
    }

    fn uses(passed: &PassedSockets, config: &model::Config) -> Vec<Option<String>> {
        passed.assign(config).uses().map(|(_, purpose)| purpose.map(str::to_owned)).collect()
    }

    #[test]
    fn socket_serves_the_frontend_of_its_address_whatever_its_name() {
        let (web, mail, admin) = (socket("mail"), socket("unknown"), socket("web"));
        let [at_web, at_mail, at_admin] =
            [&web, &mail, &admin].map(|socket| socket.listener.address().clone());
        let passed: PassedSockets = [web, mail, admin].into_iter().collect();
        let config =
            config(Some(&at_admin), vec![app("mail", &[&at_mail]), app("web", &[&at_mail, &at_web])]);
        assert_eq!(uses(&passed, &config), ["web", "mail", "admin"].map(|name| Some(name.to_owned())));
        let assignment = passed.assign(&config);
        assert_eq!(assignment.of_frontend("web", 1).map(|listener| listener.address().clone()), Some(at_web));
        assert!(assignment.of_frontend("web", 0).is_none(), "its address belongs to the first app");
        assert_eq!(assignment.of_admin().map(|listener| listener.address().clone()), Some(at_admin));
    }

    #[test]
    fn socket_that_is_bound_elsewhere_goes_by_its_name() {
        let passed: PassedSockets =
            ["web", "admin", "web", "web", "nobody"].map(socket).into_iter().collect();
        let other = SocketAddress::unix("/run/other.sock");
        let first = passed.0[2].listener.address().clone();
        let config = config(Some(&other), vec![app("web", &[&first, &other])]);
        let expected = [Some("web"), Some("admin"), Some("web"), None, None];
        assert_eq!(uses(&passed, &config), expected.map(|name| name.map(str::to_owned)));
        let assignment = passed.assign(&config);
        let at = |index| assignment.of_frontend("web", index).map(|listener| listener.address().clone());
        assert_eq!(at(0), Some(first));
        assert_eq!(at(1), Some(passed.0[0].listener.address().clone()));
        assert_eq!(assignment.unused().count(), 2);
    }

    #[test]
    fn dual_stack_frontend_wants_a_dual_stack_socket() {
        let any: SocketAddr = "[::]:0".parse().expect("an address");
        for is_dual in [false, true] {
            let options = ListenOptions { v6_only: !is_dual, ..ListenOptions::default() };
            // A machine without IPv6 has no such socket.
            let Ok(listener) = Listener::bind(&any.into(), &options) else { return };
            let at = listener.address().clone();
            let passed: PassedSockets = [PassedSocket::new("unknown", listener)].into_iter().collect();
            let mut app = app("web", &[&at]);
            app.frontends[0].dual_stack = true;
            assert_eq!(passed.assign(&config(None, vec![app])).of_frontend("web", 0).is_some(), is_dual);
        }
    }
}
