//! What is known of the files that a configuration names, from the one that runs: of what did not change nothing is read again.

use std::collections::HashMap;
use std::sync::Arc;

use ringway::tls::CertificateStore;

use crate::model::App;

/// What was read before.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The certificates of the app of this name.
    certificates: HashMap<String, Arc<CertificateStore>>,
}

impl Known {
    /// Of these apps.
    pub fn of<'a>(apps: impl IntoIterator<Item = &'a App>) -> Self {
        let certificates = |app: &App| {
            let termination = app.tls.as_ref()?.termination.as_ref()?;
            Some((app.name.clone(), Arc::clone(&termination.certificates)))
        };
        Self { certificates: apps.into_iter().filter_map(certificates).collect() }
    }

    /// The certificates of the app of this name.
    pub(super) fn certificates(&self, app: &str) -> Option<&CertificateStore> {
        self.certificates.get(app).map(|store| &**store)
    }
}
