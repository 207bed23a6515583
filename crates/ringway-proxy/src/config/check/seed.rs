//! The seed proxy's file: `{"Apps":[{"Name":"first","Ports":[15001],"Targets":["127.0.0.1:10001"]}]}`.
//!
//! Ports are listened on in dual stack; everything that the file cannot say is as by default.

use std::net::{Ipv6Addr, SocketAddr};

use super::app::{app_name, elements};
use super::document::Document;
use super::fields::{Checker, Item};
use super::{PlacedApp, across, address};
use crate::model::{App, Backend, Config, Frontend, Server};

pub(super) fn check<'t>(document: &'t Document<'t>, checker: &mut Checker<'t>) -> Config {
    let mut config = Config { server: Server::default(), admin: None, apps: Vec::new(), demo: false };
    let Some(mut fields) = checker.root(&document.root) else { return config };
    let mut apps = Vec::new();
    if let Some(item) = fields.take("Apps") {
        for item in elements(&item, "an array of apps", checker) {
            apps.extend(app(&item, document, checker));
        }
    }
    fields.finish(checker);
    across(&apps, None, checker);
    config.apps = apps.into_iter().map(|app| app.app).collect();
    config
}

fn app<'t>(item: &Item<'t>, document: &'t Document<'t>, checker: &mut Checker<'_>) -> Option<PlacedApp<'t>> {
    let mut fields = checker.table(item, "an app, as {\"Name\": …, \"Ports\": …, \"Targets\": …}")?;
    let mut app = App::new("");
    let name = fields.require("Name", "a name that no other app has", checker);
    let name = name.filter(|item| match app_name(item, checker) {
        Some(text) => {
            app.name = text;
            true
        }
        None => false,
    });
    let mut frontends = Vec::new();
    if let Some(item) = fields.require("Ports", "an array of ports, as [15001]", checker) {
        for element in elements(&item, "an array of ports, as [15001]", checker) {
            let port = checker.number(&element, 1..=65_535, "a port, ");
            let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { continue };
            let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into();
            app.frontends.push(Frontend { dual_stack: true, ..Frontend::new(format!(":{port}"), address) });
            frontends.push(element);
        }
    }
    if let Some(item) = fields.require("Targets", "an array of addresses, as [\"10.0.0.1:80\"]", checker) {
        for element in elements(&item, "an array of addresses, as [\"10.0.0.1:80\"]", checker) {
            let target = checker.address(&element, "an address such as \"10.0.0.1:80\"", address::backend);
            let Some(target) = target else { continue };
            // The seed proxy takes a target that is given twice for twice the share.
            match app.backends.iter_mut().find(|backend| backend.target == target) {
                Some(twice) => twice.weight = Backend::WEIGHT_MAX.min(twice.weight + 1),
                None => app.backends.push(Backend::new(element.as_text().unwrap_or(""), target)),
            }
        }
    }
    fields.finish(checker);
    Some(PlacedApp { app, document, name, frontends })
}
