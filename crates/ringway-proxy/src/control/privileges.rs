//! Giving up root: after everything is bound that needs it, and before anybody is served.

use std::fs::File;
use std::io;
use std::path::Path;

use ringway::{Identity, ListenOptions, Listener, SocketAddress};

use crate::endpoint::socket_options;
use crate::model::{Admin, Server};
use crate::snapshot::Snapshot;

/// Who the process is to become.
pub(super) struct Privileges {
    user: String,
    identity: Identity,
}

impl Privileges {
    /// What the configuration says; `None` if the process stays who it is.
    ///
    /// # Errors
    /// When there is no such user or group.
    pub(super) fn wanted(server: &Server) -> io::Result<Option<Self>> {
        let Some(user) = server.user.clone() else { return Ok(None) };
        let identity = Identity::find(&user, server.group.as_deref())
            .map_err(|error| io::Error::new(error.kind(), format!("server.user: {error}")))?;
        if identity.is_current() {
            tracing::info!(user, "the process is this user already");
            return Ok(None);
        }
        Ok(Some(Self { user, identity }))
    }

    /// Binds what the apps and the admin interface listen at, gives the socket of the latter, and becomes the user. What
    /// cannot be bound is told of; it is tried again later, without the rights of now.
    ///
    /// # Errors
    /// When the process may not become that user, or might come back.
    pub(super) fn give_up(
        &self,
        snapshot: &Snapshot,
        workers: usize,
        file: Option<&Path>,
    ) -> io::Result<Option<Listener>> {
        let server = &snapshot.settings().server;
        for app in snapshot.apps() {
            for frontend in app.frontends() {
                let options = socket_options(app.model(), server.congestion.clone());
                if let Err(error) = frontend.prepare(workers, options) {
                    tracing::warn!(app = %app.name(), frontend = %frontend.name(), %error, "not bound before root is given up");
                }
            }
        }
        let admin = snapshot.settings().admin.as_ref().and_then(bind_admin);
        self.identity.assume().map_err(|error| {
            let hint = "only root can become another user: start as root, or leave server.user out";
            io::Error::new(
                error.kind(),
                format!("cannot become server.user {:?}: {error}; {hint}", self.user),
            )
        })?;
        tracing::info!(user = self.user, "root is given up");
        if let Some(file) = file
            && let Err(error) = File::open(file)
        {
            let file = file.display();
            tracing::warn!(%file, %error, user = self.user, "a reload will not be able to read the configuration");
        }
        Ok(admin)
    }
}

/// The socket of the admin interface, if it is of TCP and its address is free.
fn bind_admin(admin: &Admin) -> Option<Listener> {
    let SocketAddress::Inet(_) = admin.listen else { return None };
    let options = ListenOptions { reuse_port: false, ..ListenOptions::default() };
    // Whoever serves it tries again, and tells of it.
    Listener::bind(&admin.listen, &options).ok()
}
