//! What is known of the files that a configuration names, from the one that runs: of what did not change nothing is read again.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringway::tls::{CertificateFiles, CertificateStore};

use crate::model::App;

/// The certificates of directories, by the paths of these.
pub type Listings = BTreeMap<PathBuf, Vec<CertificateFiles>>;

/// What was read before.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The certificates of the app of this name.
    certificates: HashMap<String, Arc<CertificateStore>>,
    listings: Listings,
}

impl Known {
    /// Of these apps.
    pub fn of<'a>(apps: impl IntoIterator<Item = &'a App>) -> Self {
        let certificates = |app: &App| {
            let termination = app.tls.as_ref()?.termination.as_ref()?;
            Some((app.name.clone(), Arc::clone(&termination.certificates)))
        };
        let certificates = apps.into_iter().filter_map(certificates).collect();
        Self { certificates, listings: Listings::new() }
    }

    /// And of these directories.
    #[must_use]
    pub fn with_listings(self, listings: Listings) -> Self {
        Self { listings, ..self }
    }

    /// The certificates of the app of this name.
    pub(super) fn certificates(&self, app: &str) -> Option<&CertificateStore> {
        self.certificates.get(app).map(|store| &**store)
    }

    /// The certificates in this directory.
    pub(super) fn listing(&self, directory: &Path) -> Option<&[CertificateFiles]> {
        self.listings.get(directory).map(Vec::as_slice)
    }
}
