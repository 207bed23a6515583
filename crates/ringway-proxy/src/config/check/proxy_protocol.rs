//! `app.proxy_protocol`: whose headers are taken, and which are sent.

use super::fields::{Checker, Item};
use super::network;
use crate::config::tree::Value;
use crate::model::{AcceptHeader, ProxyProtocol, SendHeader};

const TRUSTED: &str = "a network such as \"10.0.0.0/8\", an IP address, or \"unix\"";

pub(super) fn read(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<ProxyProtocol> {
    let mut proxy = ProxyProtocol::default();
    let expected = "a table such as { accept = true, trusted = [\"10.0.0.0/8\"], send = \"v2\" }";
    let mut fields = checker.table(item, expected)?;
    let accept = fields.take("accept");
    if let Some(item) = &accept {
        proxy.accept = accept_header(item, checker).unwrap_or_default();
    }
    let trusted = fields.take("trusted");
    if let Some(item) = &trusted {
        for element in checker.array(item, "an array of networks, as [\"10.0.0.0/8\"]", None) {
            if element.as_text() == Some("unix") {
                proxy.trusts_unix = true;
            } else if let Some(network) = network::read(&element, TRUSTED, checker) {
                proxy.trusted.push(network);
            }
        }
    }
    if let Some(item) = fields.take("send") {
        let words = [("none", SendHeader::None), ("v1", SendHeader::V1), ("v2", SendHeader::V2)];
        proxy.send = checker.choice(&item, &words, &[]).unwrap_or_default();
    }
    fields.finish(checker);
    match (proxy.accept, &accept, &trusted) {
        (AcceptHeader::Never, _, Some(item)) if accept.as_ref().is_none_or(is_false) => {
            checker.conflict(item, "nobody is listened to: accept is false", None);
        }
        (AcceptHeader::Required | AcceptHeader::Optional, Some(item), None) => {
            let hint = "name the proxies in front, as trusted = [\"10.0.0.0/8\"]: anybody else could say any address";
            checker.conflict(item, "there is no `trusted`, so that nobody would be believed", Some(hint));
        }
        _ => {}
    }
    Some(proxy)
}

fn accept_header(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<AcceptHeader> {
    match &item.node.value {
        Value::Boolean(false) => Some(AcceptHeader::Never),
        Value::Boolean(true) => Some(AcceptHeader::Required),
        Value::String(text) if text == "optional" => Some(AcceptHeader::Optional),
        Value::String(text) if text == "true" && item.node.template.is_some() => Some(AcceptHeader::Required),
        Value::String(text) if text == "false" && item.node.template.is_some() => Some(AcceptHeader::Never),
        _ => {
            checker.wrong(item, "true, false or \"optional\"");
            None
        }
    }
}

fn is_false(item: &Item<'_>) -> bool {
    item.node.value == Value::Boolean(false)
}
