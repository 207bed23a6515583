//! What it costs to find the route of a client: `cargo xtask bench --routing`.
//!
//! Among 10 routes and among 10,000, half of them by whole name and half by wildcard; and to read the hello that says the
//! name. Rounds of all are interleaved, and the best of each counts: what disturbs only adds.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use ringway_proto::client_hello::{HelloWriter, records};
use ringway_proto::sniff::{Sniffed, sniff};
use ringway_proxy::model::{App, Client, NamePattern, Route, Rule};
use ringway_proxy::routing::{Inquirer, RouteTable};

const ROUNDS: usize = 15;
const LOOKUPS: usize = 20_000;

struct Cell {
    what: &'static str,
    table: RouteTable,
    names: Vec<String>,
    best_nanos: f64,
}

impl Cell {
    fn new(what: &'static str, routes: usize, names: impl Fn(usize) -> String) -> Self {
        let pool = Arc::new(App::new("app"));
        let route = |n: usize| {
            let name = match n % 2 {
                0 => NamePattern::Exact(format!("host{n}.example.com")),
                _ => NamePattern::Below(format!("zone{n}.example.com")),
            };
            let rule = Rule { server_names: vec![name], ..Rule::default() };
            Route { name: n.to_string(), rule, pool: Arc::clone(&pool) }
        };
        let app = App { routes: (0..routes).map(route).collect(), ..App::new("app") };
        let names = (0..997).map(|n| names(n * routes / 997)).collect();
        Self { what, table: RouteTable::new(&app), names, best_nanos: f64::INFINITY }
    }

    fn round(&mut self) {
        let start = Instant::now();
        for lookup in 0..LOOKUPS {
            let name = &self.names[lookup % self.names.len()];
            let client = Inquirer {
                client_name: None,
                protocol: Some(Client::Tls),
                name: Some(name),
                offers: &|_| false,
                path: None,
                source: None,
                destination: None,
            };
            black_box(self.table.find(&client));
        }
        self.best_nanos = self.best_nanos.min(start.elapsed().as_nanos() as f64 / LOOKUPS as f64);
    }
}

fn main() {
    let exact = |n: usize| format!("host{}.example.com", n & !1);
    let below = |n: usize| format!("a.b.zone{}.example.com", n | 1);
    let none = |n: usize| format!("host{n}.example.net");
    let mut cells = [
        Cell::new("whole name, 10 routes", 10, exact),
        Cell::new("whole name, 10,000 routes", 10_000, exact),
        Cell::new("wildcard, 10,000 routes", 10_000, below),
        Cell::new("no route, 10,000 routes", 10_000, none),
    ];
    let hybrid = vec![0; 1_250];
    let writer = HelloWriter::new().server_name("host4242.example.com").alpn(&["h2", "http/1.1"]);
    let hello = records(&writer.extension(51, &hybrid).message(), 16_384);
    let mut hello_nanos = f64::INFINITY;
    for _ in 0..ROUNDS {
        cells.iter_mut().for_each(Cell::round);
        let start = Instant::now();
        for _ in 0..LOOKUPS {
            let Sniffed::Tls(hello) = sniff(black_box(&hello)) else { panic!("it is a hello") };
            black_box(hello.server_name());
        }
        hello_nanos = hello_nanos.min(start.elapsed().as_nanos() as f64 / LOOKUPS as f64);
    }
    println!("| what | ns a connection |");
    println!("|---|---|");
    for cell in &cells {
        println!("| {} | {:.0} |", cell.what, cell.best_nanos);
    }
    println!("| reading a hello of {} bytes | {hello_nanos:.0} |", hello.len());
}
