//! Which app a connection belongs to. A frontend belongs to one app; what a client says of itself is not looked at.

use std::sync::Arc;

use crate::endpoint::{AppState, FrontendState};

/// All frontends of the process, numbered in the order of the configuration.
#[derive(Debug)]
pub struct Routes {
    /// `(app, frontend of the app)` by number.
    frontends: Vec<(u16, u16)>,
    apps: Vec<Arc<AppState>>,
}

impl Routes {
    /// The routes of these apps.
    ///
    /// # Panics
    /// If there are more than 65,536 apps or frontends: a session names its frontend in two bytes.
    pub fn new(apps: Vec<Arc<AppState>>) -> Self {
        let small = |index: usize| u16::try_from(index).expect("no more than 65,536 apps and frontends");
        let mut frontends = Vec::new();
        for (app, state) in apps.iter().enumerate() {
            frontends.extend((0..state.frontends().len()).map(|index| (small(app), small(index))));
        }
        small(frontends.len().saturating_sub(1));
        Self { frontends, apps }
    }

    /// How many frontends there are.
    pub fn len(&self) -> usize {
        self.frontends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.frontends.is_empty()
    }

    /// Place of the app that the connections of this frontend belong to.
    ///
    /// # Panics
    /// If there is no such frontend.
    pub fn app_of(&self, frontend: u16) -> usize {
        usize::from(self.frontends[usize::from(frontend)].0)
    }

    /// The state of a frontend.
    ///
    /// # Panics
    /// If there is no such frontend.
    pub fn frontend(&self, frontend: u16) -> &FrontendState {
        let (app, index) = self.frontends[usize::from(frontend)];
        &self.apps[usize::from(app)].frontends()[usize::from(index)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::testing::app_of_hosts;

    #[test]
    fn each_frontend_belongs_to_its_app() {
        let mut models = [app_of_hosts(&[]), app_of_hosts(&[])];
        let mut second = models[0].frontends[0].clone();
        second.name = "second".into();
        models[0].frontends.push(second);
        let routes = Routes::new(
            models.iter().enumerate().map(|(index, model)| Arc::new(AppState::new(index, model))).collect(),
        );
        assert_eq!((0..3).map(|frontend| routes.app_of(frontend)).collect::<Vec<_>>(), [0, 0, 1]);
        assert_eq!(&**routes.frontend(1).name(), "second");
        assert_eq!(routes.len(), 3);
    }
}
