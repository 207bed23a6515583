//! What a choice of a backend costs: `cargo xtask bench --balance`.
//!
//! Each method chooses and gives back among 10 and among 10,000 backends that hold connections, and among 10,000 of
//! which one in a hundred is up. Rounds of all are interleaved, and the best of each counts: what disturbs only adds.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use ringway::Time;
use ringway_proxy::balance::{Balancer, Random, Request};
use ringway_proxy::endpoint::{AppState, Health};
use ringway_proxy::model::{App, Backend, Balance, Target};

const METHODS: [(&str, Balance); 6] = [
    ("least-connections", Balance::LeastConnections),
    ("round-robin", Balance::RoundRobin),
    ("random", Balance::Random),
    ("two-choices", Balance::TwoChoices),
    ("source-hash", Balance::SourceHash),
    ("maglev", Balance::Maglev),
];
const ROUNDS: usize = 15;
const CHOICES: u32 = 20_000;
/// Connections that each backend holds all the time.
const HELD: usize = 3;

/// A balancer with connections that come and go.
struct Cell {
    app: AppState,
    balancer: Balancer,
    /// Places that hold a connection, in the order in which they are given back.
    open: Vec<usize>,
    random: Random,
    best_nanos: f64,
}

impl Cell {
    fn new(balance: Balance, backends: usize, up_one_in: usize) -> Self {
        let address = |n: usize| SocketAddr::from(([10, 1, (n / 250) as u8, (n % 250) as u8], 80));
        let backend = |n| Backend::new(address(n).to_string(), Target::Address(address(n).into()));
        let model = App { balance, backends: (0..backends).map(backend).collect(), ..App::new("app") };
        let app = AppState::new(0, &model);
        for (place, endpoint) in app.endpoints().endpoints().iter().enumerate() {
            if place % up_one_in != 0 {
                endpoint.set_health(Health::Down, None, Time::ZERO);
            }
        }
        let balancer = Balancer::new(balance, app.endpoints(), Random::new(1));
        let mut cell =
            Self { app, balancer, open: Vec::new(), random: Random::new(2), best_nanos: f64::INFINITY };
        for _ in 0..HELD * backends / up_one_in {
            let place = cell.choose();
            cell.open.push(place);
        }
        cell
    }

    fn choose(&mut self) -> usize {
        let source: IpAddr = Ipv4Addr::from(self.random.number() as u32).into();
        let request = Request { source: Some(source), tried: &[], now: Time::ZERO };
        self.balancer.choose(&request).expect("backends are up")
    }

    fn round(&mut self) {
        let start = Instant::now();
        for _ in 0..CHOICES {
            let place = black_box(self.choose());
            let index = self.random.below(self.open.len() as u64) as usize;
            let ended = std::mem::replace(&mut self.open[index], place);
            self.balancer.set().endpoints()[ended].release();
        }
        let nanos = start.elapsed().as_nanos() as f64 / f64::from(CHOICES);
        self.best_nanos = self.best_nanos.min(nanos);
    }
}

fn main() {
    let mut cells: Vec<[Cell; 3]> = METHODS
        .iter()
        .map(|(_, balance)| {
            [Cell::new(*balance, 10, 1), Cell::new(*balance, 10_000, 1), Cell::new(*balance, 10_000, 100)]
        })
        .collect();
    for _ in 0..ROUNDS {
        cells.iter_mut().flatten().for_each(Cell::round);
    }
    println!("| ns a connection | 10 backends | 10,000 | more | 10,000, 1 % up |");
    println!("|---|---|---|---|---|");
    for ((name, _), [few, many, down]) in METHODS.iter().zip(&cells) {
        assert_eq!(many.app.endpoints().endpoints().len(), 10_000);
        let more = many.best_nanos - few.best_nanos;
        println!(
            "| {name} | {:.0} | {:.0} | {more:.0} | {:.0} |",
            few.best_nanos, many.best_nanos, down.best_nanos
        );
    }
}
