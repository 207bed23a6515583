//! `ringway backend`: one backend of a running ringway, looked at or changed.

use super::arguments::BackendArguments;
use super::ask::Asker;
use super::status;
use crate::control::exit::Exit;
use crate::control::operator::BackendOrder;
use crate::control::status::BackendStatus;

/// Changes it if anything is to be changed, and shows it.
pub(super) fn main(arguments: &BackendArguments) -> Exit {
    let BackendArguments { app, backend, weight, maintenance, ready, admin } = arguments;
    let duty = match (maintenance, ready) {
        (true, _) => Some("maintenance".to_owned()),
        (false, true) => Some("ready".to_owned()),
        (false, false) => None,
    };
    let order = BackendOrder { app: app.clone(), backend: backend.clone(), weight: weight.clone(), duty };
    let method = if order.weight.is_some() || order.duty.is_some() { "PUT" } else { "GET" };
    match Asker::new("backend", admin) {
        Ok(asker) => asker.print(method, "/backend", &order, |status: &BackendStatus| render(app, status)),
        Err(exit) => exit,
    }
}

fn render(app: &str, status: &BackendStatus) -> String {
    let mut table = status::backend_table();
    status::push_backend(&mut table, app, status, false);
    table.render()
}
