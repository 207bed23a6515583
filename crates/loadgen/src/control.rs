//! Lines on standard input by which a parent leads the run.

use std::io::BufRead;
use std::net::SocketAddr;
use std::time::Duration;

use ringway::Mailer;

/// What a line asks for; the mail of the load's worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Count this process's CPU time.
    Watch(u32),
    /// Connect to this address, now.
    Target(SocketAddr),
    /// End the hold, go on.
    Next,
    /// Round trips by the clock, one a client in this time; each so-many-th client dials anew after each.
    Pace(Duration, usize),
    /// Tell what was counted since the last mark, and count from zero.
    Mark,
    /// The parent is gone.
    Finish,
}

/// Reads lines until the input ends, and mails what they say. Lines that say nothing known are named on stderr.
pub(crate) fn follow(input: impl BufRead, mailer: &Mailer<Command>) {
    for line in input.lines() {
        let Ok(line) = line else { break };
        match parse(&line) {
            Ok(command) => mailer.send(command),
            Err(problem) => eprintln!("loadgen: {problem}"),
        }
    }
    mailer.send(Command::Finish);
}

fn parse(line: &str) -> Result<Command, String> {
    let mut words = line.split_ascii_whitespace();
    let (word, argument) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    match word {
        "watch" => argument.parse().map(Command::Watch).map_err(|_| format!("`{argument}` is no process id")),
        "target" => argument.parse().map(Command::Target).map_err(|_| format!("`{argument}` is no address")),
        "next" => Ok(Command::Next),
        "pace" => {
            let period =
                argument.parse().map_err(|_| format!("`{argument}` is no number of milliseconds"))?;
            let churn = words.next().unwrap_or("0");
            let churn = churn.parse().map_err(|_| format!("`{churn}` is no number of clients"))?;
            Ok(Command::Pace(Duration::from_millis(period), churn))
        }
        "mark" => Ok(Command::Mark),
        _ => Err(format!("unknown line `{line}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_a_word_and_its_argument() {
        assert_eq!(parse("watch 12"), Ok(Command::Watch(12)));
        assert_eq!(parse("target 127.0.0.1:80"), Ok(Command::Target(([127, 0, 0, 1], 80).into())));
        assert_eq!(parse("next"), Ok(Command::Next));
        assert_eq!(parse("pace 250 10"), Ok(Command::Pace(Duration::from_millis(250), 10)));
        assert_eq!(parse("mark"), Ok(Command::Mark));
        assert!(parse("pace fast").is_err());
        assert!(parse("target nowhere").is_err());
        assert!(parse("").is_err());
    }
}
