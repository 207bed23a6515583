//! Some bytes, and an answer that begins or reads as expected.

use std::sync::Arc;

use super::{Step, describe, is_met, show};
use crate::model::SendExpect;

/// Bytes of an answer that are looked at: greetings and replies to a ping are shorter.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// One exchange.
#[derive(Debug)]
pub struct SendExpectConversation {
    check: Arc<SendExpect>,
    received: Vec<u8>,
}

impl SendExpectConversation {
    pub(super) fn new(check: &Arc<SendExpect>) -> Self {
        Self { check: Arc::clone(check), received: Vec::new() }
    }

    pub(super) fn handle_connected(&self) -> Step {
        match self.check.send.is_empty() {
            true => Step::Wait,
            false => Step::Send(self.check.send.clone()),
        }
    }

    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) -> Step {
        let room = ANSWER_BYTES_MAX - self.received.len();
        self.received.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let is_full = self.received.len() == ANSWER_BYTES_MAX;
        match is_met(&self.check.expect, &self.received, is_full) {
            Some(true) => Step::Passed { goodbye: self.check.goodbye.clone() },
            Some(false) => Step::Failed(format!(
                "expected {}, got {}",
                describe(&self.check.expect),
                show(&self.received)
            )),
            None => Step::Wait,
        }
    }

    /// Why it failed if nothing more comes.
    pub(super) fn missing(&self, why: &str) -> String {
        format!("expected {}, got {}: {why}", describe(&self.check.expect), show(&self.received))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Conversation;
    use super::*;
    use crate::model::{Check, Expected, Preset};

    fn conversation(check: SendExpect) -> Conversation {
        Conversation::new(&Check::SendExpect(Arc::new(check)), "10.0.0.1:80").expect("it is a check")
    }

    #[test]
    fn redis_that_loads_its_data_is_not_there_yet() {
        let mut redis = conversation(SendExpect::preset(Preset::Redis));
        assert_eq!(redis.handle_connected(), Step::Send(b"*1\r\n$4\r\nPING\r\n".to_vec()));
        let loading = b"-LOADING Redis is loading the dataset in memory\r\n";
        assert_eq!(
            redis.handle_bytes(loading),
            Step::Failed(
                r#"expected "+PONG" or "-NOAUTH", got "-LOADING Redis is loading the dataset in"…"#.into()
            )
        );
    }

    #[test]
    fn smtp_is_listened_to_first_and_told_goodbye() {
        let mut smtp = conversation(SendExpect::preset(Preset::Smtp));
        assert_eq!(smtp.handle_connected(), Step::Wait);
        assert_eq!(smtp.handle_bytes(b"22"), Step::Wait);
        assert_eq!(smtp.handle_bytes(b"0 mail ESMTP\r\n"), Step::Passed { goodbye: b"QUIT\r\n".to_vec() });
        let mut smtp = conversation(SendExpect::preset(Preset::Smtp));
        assert!(matches!(smtp.handle_bytes(b"554 no\r\n"), Step::Failed(_)));
    }

    #[test]
    fn an_answer_without_end_is_not_kept() {
        let expect = Expected::Text("ready".into());
        let mut endless = conversation(SendExpect { send: Vec::new(), expect, goodbye: Vec::new() });
        assert_eq!(endless.handle_bytes(&[b'.'; 4_000]), Step::Wait);
        assert!(matches!(endless.handle_bytes(&[b'.'; 100_000]), Step::Failed(_)));
    }

    proptest! {
        #[test]
        fn any_cutting_of_the_answer_means_the_same(cuts in prop::collection::vec(0usize..12, 0..4), good: bool) {
            let answer: &[u8] = if good { b"hello +PONG" } else { b"hello -PONG" };
            let expect = Expected::Text("+PONG".into());
            let mut check = conversation(SendExpect { send: Vec::new(), expect, goodbye: Vec::new() });
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(answer.len())).collect();
            cuts.extend([0, answer.len()]);
            cuts.sort_unstable();
            let steps: Vec<Step> =
                cuts.windows(2).map(|cut| check.handle_bytes(&answer[cut[0]..cut[1]])).collect();
            prop_assert_eq!(steps.contains(&Step::PASSED), good);
            prop_assert!(matches!(check.handle_end(), Step::Failed(_)));
        }
    }
}
