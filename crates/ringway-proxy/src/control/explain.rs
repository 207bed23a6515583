//! Where a client would go, and why: the decision of the workers, made for a client that is described.

use std::net::{IpAddr, SocketAddr};

use ringway::Time;
use ringway_proto::host_name::HostName;
use serde::{Deserialize, Serialize};

use super::operator::Refusal;
use super::status::{BackendStatus, backends_status};
use crate::balance::{Balancer, Random, Request};
use crate::endpoint::AppState;
use crate::model::{Balance, Client, Unreadable};
use crate::routing::{Decision, Inquirer};

/// A client, as the query of `/explain` describes it. What is not named, it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    /// Name of an app.
    pub app: String,
    /// What it speaks; without it TLS for a server name or ALPN, HTTP/1 for a host or path, and silence for neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The server name that it asks for in TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// The host that it asks for in a request of HTTP/1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The application protocols that it offers, with commas between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    /// What it is called by its certificate.
    #[serde(default)]
    pub client_name: Option<String>,
    /// The path of its request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The address and port that it connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
}

/// Where it would go. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// What it speaks; `null` where the app does not look.
    pub protocol: Option<String>,
    /// The routes of the app, in their order.
    pub routes: Vec<RouteVerdict>,
    /// `route`, `app` (its own backends), `refused`.
    pub outcome: String,
    /// The route that it takes.
    pub route: Option<String>,
    /// Why it is refused, as the access log says it.
    pub reason: Option<String>,
    /// How one of the backends is chosen.
    pub balance: Option<String>,
    /// The address that would be chosen now, where that is neither chance nor turn.
    pub choice: Option<String>,
    /// The backends that it may get.
    pub backends: Vec<BackendStatus>,
}

/// A route, and what keeps the client from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteVerdict {
    /// Its name.
    pub name: String,
    /// What does not fit; `null`: it fits.
    pub mismatch: Option<String>,
}

/// Where a client of `app` would go at `now`.
///
/// # Errors
/// When the query says what no client can.
pub fn explain(app: &AppState, query: &ExplainQuery, now: Time) -> Result<Explanation, Refusal> {
    let wrong = |key: &str, found: &str, expected: &str| {
        Refusal::Wrong(format!("{key}: \"{found}\"; expected {expected}"))
    };
    let name = |key: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => match HostName::new(text.as_bytes()) {
            Ok(name) => Ok(Some(name)),
            Err(error) => Err(wrong(key, text, &format!("a host name: {error}"))),
        },
    };
    if query.sni.is_some() && query.host.is_some() {
        return Err(Refusal::Wrong("sni is of TLS, and host of HTTP/1: a client has one of them".to_owned()));
    }
    let name = name("sni", &query.sni)?.or(name("host", &query.host)?);
    let source: Option<IpAddr> = match &query.source {
        Some(text) => Some(text.parse().map_err(|_| wrong("source", text, "an IP address"))?),
        None => None,
    };
    let destination: Option<SocketAddr> = match &query.destination {
        Some(text) => {
            Some(text.parse().map_err(|_| wrong("destination", text, "an address as 192.0.2.1:443"))?)
        }
        None => None,
    };
    let protocol = match &query.protocol {
        Some(word) => Client::of_word(word)
            .ok_or_else(|| wrong("protocol", word, &Client::ALL.map(Client::as_str).join(", ")))?,
        None if query.sni.is_some() || query.alpn.is_some() || query.client_name.is_some() => Client::Tls,
        None if query.host.is_some() || query.path.is_some() => Client::Http1,
        None => Client::Silent,
    };
    let protocol = app.routes().needs_bytes().then_some(protocol);
    let offered: Vec<&str> = query.alpn.iter().flat_map(|list| list.split(',')).map(str::trim).collect();
    let offers = |one: &[u8]| offered.iter().any(|offered| offered.as_bytes() == one);
    // Where TLS ends here, it is what is agreed on that counts.
    let termination = app.model().tls.as_ref().and_then(|tls| tls.termination.as_ref());
    let agreed = termination.map(|termination| termination.agrees_on(&offers));
    let client = Inquirer {
        protocol,
        name: name.as_deref(),
        client_name: query.client_name.as_deref(),
        offers: &|one| match agreed {
            Some(agreed) => agreed.is_some_and(|agreed| agreed.as_bytes() == one),
            None => offers(one),
        },
        path: query.path.as_deref(),
        source,
        destination,
    };
    let mismatches = app.routes().explain(&client);
    let routes = app.model().routes.iter().zip(mismatches);
    let verdict = |(route, mismatch): (&crate::model::Route, Option<crate::routing::Mismatch>)| {
        RouteVerdict { name: route.name.clone(), mismatch: mismatch.map(|mismatch| mismatch.to_string()) }
    };
    let mut explanation = Explanation {
        protocol: protocol.map(|protocol| protocol.as_str().to_owned()),
        routes: routes.map(verdict).collect(),
        outcome: "refused".to_owned(),
        route: None,
        reason: None,
        balance: None,
        choice: None,
        backends: Vec::new(),
    };
    if protocol == Some(Client::Silent) && !app.model().takes_silence() {
        explanation.reason = Some("hello_timeout".to_owned());
        return Ok(explanation);
    }
    let unreadable = app.model().tls.as_ref().map(|tls| &tls.unreadable);
    let pool = match (app.routes().decide(app.model(), &client), unreadable) {
        (Decision::Route(route), _) => app.pools().get(route).map(|pool| &**pool),
        (Decision::Unreadable, Some(Unreadable::Pool(_))) => app.pools().last().map(|pool| &**pool),
        (Decision::Own, _) => Some(app),
        (Decision::Unreadable, _) => {
            explanation.reason = Some("hello_unreadable".to_owned());
            None
        }
        (Decision::NoRoute, _) => {
            explanation.reason = Some("no_route".to_owned());
            None
        }
    };
    if let Some(pool) = pool {
        explanation.route = pool.route().map(|route| route.to_string());
        explanation.outcome = if explanation.route.is_some() { "route" } else { "app" }.to_owned();
        explanation.backends = backends_status(pool);
        explanation.balance = Some(balance_word(pool.model().balance).to_owned());
        explanation.choice = choice(pool, source, now);
    }
    Ok(explanation)
}

/// The word of the configuration.
fn balance_word(balance: Balance) -> &'static str {
    match balance {
        Balance::LeastConnections => "least-connections",
        Balance::RoundRobin => "round-robin",
        Balance::Random => "random",
        Balance::TwoChoices => "two-choices",
        Balance::SourceHash => "source-hash",
        Balance::Maglev => "maglev",
    }
}

/// What would be chosen: the choice is made, and given back at once.
fn choice(pool: &AppState, source: Option<IpAddr>, now: Time) -> Option<String> {
    match pool.model().balance {
        // A turn that is taken would be missed by a client.
        Balance::RoundRobin | Balance::Random | Balance::TwoChoices => return None,
        Balance::LeastConnections | Balance::SourceHash | Balance::Maglev => {}
    }
    let set = pool.endpoints();
    let mut balancer = Balancer::new(pool.model().balance, std::sync::Arc::clone(&set), Random::new(0));
    let place = balancer.choose(&Request { source, tried: &[], now })?;
    let endpoint = &set.endpoints()[place];
    endpoint.release();
    Some(endpoint.address().to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{App, Backend, NamePattern, Route, Rule, RulesOfTls, Target};
    use crate::snapshot::Lineage;

    fn app() -> Arc<AppState> {
        let route = |name: &str, host: &str, port: u16| {
            let address: SocketAddr = ([127, 0, 0, 1], port).into();
            let backends = vec![Backend::new(address.to_string(), Target::Address(address.into()))];
            let rule = Rule { server_names: vec![NamePattern::Exact(host.into())], ..Rule::default() };
            Route { name: name.into(), rule, pool: App { backends, ..App::new("edge") }.into() }
        };
        let tls = Some(RulesOfTls { unreadable: Unreadable::Refuse, termination: None });
        let routes = vec![route("one", "a.example", 1), route("two", "b.example", 2)];
        let lineage = Lineage::of_apps(vec![App { tls, routes, ..App::new("edge") }]);
        Arc::clone(lineage.current().app(0).expect("there is one"))
    }

    fn ask(query: &str) -> Result<Explanation, Refusal> {
        let query = serde_urlencoded::from_str(query).expect("a query");
        explain(&app(), &query, Time::ZERO)
    }

    #[test]
    fn the_route_its_rivals_and_the_backend_are_named() {
        let found = ask("app=edge&sni=B.example.&source=10.1.2.3").expect("it makes sense");
        assert_eq!((found.outcome.as_str(), found.route.as_deref()), ("route", Some("two")));
        let mismatch = found.routes[0].mismatch.as_deref();
        assert_eq!(mismatch, Some("server_names: b.example is none of a.example"));
        assert_eq!(found.routes[1].mismatch, None);
        assert_eq!(found.choice.as_deref(), Some("127.0.0.1:2"));
        assert_eq!(found.backends[0].endpoints[0].connections, 0, "nothing is held");
    }

    #[test]
    fn who_is_refused_hears_why() {
        let refused = |query: &str| ask(query).expect("it makes sense").reason;
        assert_eq!(refused("app=edge&sni=c.example").as_deref(), Some("no_route"));
        assert_eq!(refused("app=edge&host=a.example").as_deref(), Some("hello_unreadable"));
        assert_eq!(refused("app=edge").as_deref(), Some("hello_timeout"));
    }

    #[test]
    fn what_no_client_says_is_refused() {
        for query in [
            "app=edge&sni=10.0.0.1",
            "app=edge&sni=a&host=b",
            "app=edge&source=10.0.0.0/8",
            "app=edge&destination=10.0.0.1",
            "app=edge&protocol=tsl",
        ] {
            assert!(matches!(ask(query), Err(Refusal::Wrong(_))), "{query}");
        }
    }
}
