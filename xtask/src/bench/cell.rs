//! One cell: a fresh proxy, a fresh load, one sample.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::edge::{Certificate, Edge};
use super::process::{Load, Proxy};
use super::procfs::{self, KernelMemory};
use super::rows::{IDLE_STEPS, Measure, Row};
use super::stats::Sample;
use super::variants::{Setup, Variant};

/// Backend addresses: so many that neither side of a proxy runs out of ports.
const BACKENDS: u8 = 16;
/// What connecting and moving may take beyond the window itself.
const PATIENCE: Duration = Duration::from_secs(40);
/// Between the last byte and the reading of memory: proxies tidy up behind themselves.
const SETTLE: Duration = Duration::from_millis(300);

/// Share of handshakes in a row of resumed ones that must be.
const RESUMED_LEAST: f64 = 0.99;

/// How cells are measured.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) loadgen: PathBuf,
    /// Where configurations and logs of the proxies go.
    pub(super) directory: PathBuf,
    pub(super) proxy_cpu: usize,
    pub(super) load_cpu: usize,
    pub(super) warmup: Duration,
    pub(super) seconds: Duration,
    pub(super) descriptors: u64,
}

impl Method {
    /// Measures one variant in one row, once.
    pub(super) fn measure(&self, row: &Row, variant: Variant, program: PathBuf) -> Result<Sample, String> {
        match row.measure {
            Measure::EmptyMemory => self.empty_memory(variant, program),
            Measure::IdleSlope => self.idle_slope(row, variant, program),
            Measure::CpuPerGigabyte | Measure::CpuPerUnit | Measure::Latency => {
                self.traffic(row, row.edge, variant, program)
            }
            Measure::CpuOverPlain => {
                let plain = self.traffic(row, Edge::Plain, variant, program.clone())?;
                let sample = self.traffic(row, row.edge, variant, program)?;
                let over_plain = Some((plain.value, sample.value));
                Ok(Sample { value: sample.value - plain.value, over_plain, ..sample })
            }
        }
    }

    fn traffic(&self, row: &Row, edge: Edge, variant: Variant, program: PathBuf) -> Result<Sample, String> {
        let (mut load, backends) = self.start_load(row)?;
        let (proxy, listen) = self.start_proxy(variant, program, backends, 1, edge)?;
        for pid in proxy.pids() {
            load.tell(&format!("watch {pid}"))?;
        }
        load.tell(&format!("target {listen}"))?;
        let report = load.wait_for("result", self.warmup + self.seconds + PATIENCE)?;
        sample_of(row, &report)
    }

    fn idle_slope(&self, row: &Row, variant: Variant, program: PathBuf) -> Result<Sample, String> {
        let (mut load, backends) = self.start_load(row)?;
        let (proxy, listen) = self.start_proxy(variant, program, backends, 1, row.edge)?;
        load.tell(&format!("target {listen}"))?;
        let mut held = Vec::new();
        for _ in 0..2 {
            load.wait_for("holding", PATIENCE)?;
            thread::sleep(SETTLE);
            let user = procfs::anonymous_bytes(proxy.pids()).map_err(|error| error.to_string())?;
            let kernel = KernelMemory::now().map_err(|error| error.to_string())?;
            held.push((user, kernel));
            load.tell("next")?;
        }
        let report = load.wait_for("result", PATIENCE)?;
        let ((user_before, kernel_before), (user_after, kernel_after)) = (held[0], held[1]);
        let slope =
            |before: u64, after: u64| (after as f64 - before as f64) / (IDLE_STEPS.1 - IDLE_STEPS.0) as f64;
        Ok(Sample {
            value: slope(user_before, user_after),
            kernel: Some((
                slope(kernel_before.slab, kernel_after.slab),
                slope(kernel_before.socket_buffers, kernel_after.socket_buffers),
            )),
            errors: report["errors"].as_u64().unwrap_or(0),
            first_error: report["first_error"].as_str().map(str::to_owned),
            ..Sample::default()
        })
    }

    fn empty_memory(&self, variant: Variant, program: PathBuf) -> Result<Sample, String> {
        let backends = (1..=BACKENDS).map(|host| ([127, 0, 0, host], 9).into()).collect();
        let (proxy, _) = self.start_proxy(variant, program, backends, 2, Edge::Plain)?;
        thread::sleep(SETTLE);
        let bytes = procfs::anonymous_bytes(proxy.pids()).map_err(|error| error.to_string())?;
        Ok(Sample { value: bytes as f64 / 1e6, ..Sample::default() })
    }

    /// Starts the load and waits until its backends listen.
    fn start_load(&self, row: &Row) -> Result<(Load, Vec<SocketAddr>), String> {
        let mut arguments: Vec<String> = row.load.iter().map(|word| (*word).to_owned()).collect();
        arguments.extend(["--json", "--stdin", "--warmup"].map(str::to_owned));
        arguments.push(self.warmup.as_secs_f64().to_string());
        arguments.push("--seconds".into());
        arguments.push(self.seconds.as_secs_f64().to_string());
        for host in 1..=BACKENDS {
            arguments.push(format!("--backend=127.0.0.{host}:0"));
        }
        let load = Load::start(&self.loadgen, self.load_cpu, &arguments)?;
        let listening = load.wait_for("listening", PATIENCE)?;
        let backends = serde_json::from_value(listening["backends"].clone())
            .map_err(|error| format!("the load's backends: {error}"))?;
        Ok((load, backends))
    }

    fn start_proxy(
        &self,
        variant: Variant,
        program: PathBuf,
        backends: Vec<SocketAddr>,
        workers: usize,
        edge: Edge,
    ) -> Result<(Proxy, SocketAddr), String> {
        fs::create_dir_all(&self.directory).map_err(|error| error.to_string())?;
        let certificate = Certificate::within(&self.directory);
        if edge.is_terminated() {
            certificate.make()?;
        }
        let (listen, descriptors) = (free_address()?, self.descriptors);
        let setup = Setup { listen, backends, workers, descriptors, edge, certificate };
        let launch = variant.prepare(program, &self.directory, &setup).map_err(|error| error.to_string())?;
        let cpus = match workers {
            1 => self.proxy_cpu.to_string(),
            _ => format!("{},{}", self.load_cpu, self.proxy_cpu),
        };
        let log = self.directory.join(format!("{}.log", variant.name()));
        Ok((Proxy::start(&launch, &cpus, setup.listen, &log)?, setup.listen))
    }
}

/// An address that nobody listens on now. Not every peer can be told to choose a port itself.
pub(super) fn free_address() -> Result<SocketAddr, String> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    bound.map_err(|error| format!("no free port: {error}"))
}

/// What a report of the load says in the terms of the row.
fn sample_of(row: &Row, report: &Value) -> Result<Sample, String> {
    let number =
        |name: &str| report[name].as_f64().ok_or_else(|| format!("the load's report has no `{name}`"));
    let (units, bytes, seconds) = (number("units")?, number("bytes")?, number("seconds")?);
    let cpu = number("watched_cpu_seconds")?;
    let done = match row.measure {
        Measure::CpuPerGigabyte => bytes / 1e9,
        _ => units,
    };
    if done == 0.0 {
        let error = report["first_error"].as_str().unwrap_or("no error was seen");
        return Err(format!("nothing was moved within the window; {error}"));
    }
    let p50_us = report["latency"]["p50_us"].as_f64();
    let value = match row.measure {
        Measure::CpuPerGigabyte => cpu / done,
        Measure::Latency => p50_us.ok_or("the load's report has no latency")?,
        Measure::CpuPerUnit | Measure::CpuOverPlain | Measure::IdleSlope | Measure::EmptyMemory => {
            cpu * 1e6 / done
        }
    };
    let of_tls = |name: &str| report["tls"][name].as_f64().filter(|&count| count > 0.0);
    let handshakes = of_tls("handshakes");
    let each = |name| Some(of_tls(name).unwrap_or(0.0) / handshakes?);
    let (resumed, tickets) = (each("resumed"), each("tickets"));
    if row.load.contains(&"resumed") && resumed.is_none_or(|share| share < RESUMED_LEAST) {
        return Err(format!("of the handshakes only {:.0} % were resumed", 100.0 * resumed.unwrap_or(0.0)));
    }
    Ok(Sample {
        value,
        rate: done / seconds,
        p50_us,
        p99_us: report["latency"]["p99_us"].as_f64(),
        proxy_share: cpu / seconds,
        load_share: report["load_cpu_seconds"].as_f64().unwrap_or(0.0) / seconds,
        errors: report["errors"].as_u64().unwrap_or(0),
        first_error: report["first_error"].as_str().map(str::to_owned),
        tickets,
        ..Sample::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::rows::ROWS;
    use super::*;

    fn row(measure: Measure) -> &'static Row {
        ROWS.iter().find(|row| row.measure == measure).expect("every measure has a row")
    }

    fn report() -> Value {
        json!({
            "units": 100, "bytes": 2_000_000_000_u64, "seconds": 2.0, "errors": 1, "first_error": "x",
            "watched_cpu_seconds": 1.0, "load_cpu_seconds": 2.0, "latency": {"p50_us": 7.0, "p99_us": 9.0},
        })
    }

    #[test]
    fn a_report_becomes_what_the_row_measures() {
        let value = |measure| sample_of(row(measure), &report()).map(|sample| sample.value);
        assert_eq!(value(Measure::CpuPerGigabyte), Ok(0.5));
        assert_eq!(value(Measure::CpuPerUnit), Ok(10_000.0));
        assert_eq!(value(Measure::Latency), Ok(7.0));
    }

    #[test]
    fn handshakes_that_were_to_be_resumed_and_were_not_are_no_sample() {
        let row = ROWS.iter().find(|row| row.name == "tls-resumed").expect("there is such a row");
        let mut report = report();
        report["tls"] = json!({"handshakes": 100, "resumed": 100, "tickets": 200});
        assert_eq!(sample_of(row, &report).map(|sample| sample.tickets), Ok(Some(2.0)));
        report["tls"]["resumed"] = 50.into();
        let error = sample_of(row, &report).expect_err("half of them are another row's");
        assert!(error.contains("50 %"), "{error}");
    }

    #[test]
    fn a_window_in_which_nothing_moved_is_no_sample() {
        let mut report = report();
        report["units"] = 0.into();
        let error = sample_of(row(Measure::CpuPerUnit), &report).expect_err("nothing to divide by");
        assert!(error.contains('x'), "{error}");
    }
}
