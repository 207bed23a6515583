//! A flame graph: each call a box as wide as its share of processor time, on top of the call that made it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::stacks::Stacks;

const WIDTH: f64 = 1_200.0;
const ROW: f64 = 17.0;
/// Narrower than a line on the screen: left out.
const WIDTH_MIN: f64 = 0.3;
/// Of one character of the font, nearly.
const CHARACTER: f64 = 6.6;
/// Deeper calls are left out: a picture that high shows nothing.
const DEPTH_MAX: usize = 200;

#[derive(Default)]
struct Node {
    count: u64,
    calls: BTreeMap<String, Node>,
}

/// The picture. The name and share of a box are shown when the pointer rests on it.
pub(super) fn svg(stacks: &Stacks) -> String {
    let mut root = Node::default();
    for stack in &stacks.stacks {
        let calls = stack.frames.iter().rev().map(|frame| frame.function.as_str());
        let mut node = &mut root;
        node.count += stack.count;
        for name in std::iter::once(stack.thread.as_str()).chain(calls).take(DEPTH_MAX) {
            node = node.calls.entry(name.to_owned()).or_default();
            node.count += stack.count;
        }
    }
    let height = (depth(&root) as f64 + 1.0) * ROW + 24.0;
    let mut boxes = String::new();
    draw(&root, "all", 0.0, 0, root.count.max(1), height, &mut boxes);
    let (samples, seconds) = (root.count, stacks.duration.as_secs());
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"monospace\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fffdf5\"/>\n\
         <text x=\"4\" y=\"15\">ringway: {samples} samples in {seconds} s</text>\n{boxes}</svg>\n"
    )
}

fn depth(node: &Node) -> usize {
    1 + node.calls.values().map(depth).max().unwrap_or(0)
}

fn draw(node: &Node, name: &str, x: f64, row: usize, total: u64, height: f64, out: &mut String) {
    let width = node.count as f64 / total as f64 * WIDTH;
    if width < WIDTH_MIN {
        return;
    }
    let y = height - (row as f64 + 1.0) * ROW;
    let share = node.count as f64 / total as f64 * 100.0;
    let fits = ((width - 4.0) / CHARACTER).max(0.0) as usize;
    let label: String = if fits < 3 { String::new() } else { name.chars().take(fits).collect() };
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<g><title>{} ({} samples, {share:.1} %)</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
         height=\"{:.1}\" fill=\"{}\" rx=\"1\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
        escaped(name),
        node.count,
        ROW - 1.0,
        color(name),
        x + 2.0,
        y + 12.0,
        escaped(&label),
    );
    let mut x = x;
    for (name, call) in &node.calls {
        draw(call, name, x, row + 1, total, height, out);
        x += call.count as f64 / total as f64 * WIDTH;
    }
}

/// The same for the same name, so that pictures can be compared.
fn color(name: &str) -> String {
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("hsl({}, 75%, {}%)", 15 + hash % 40, 62 + hash / 64 % 14)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::stacks::{Frame, Stack};
    use super::*;

    #[test]
    fn a_box_is_as_wide_as_its_share_and_its_name_is_escaped() {
        let frame = |function: &str| Frame { function: function.to_owned(), file: String::new(), line: 0 };
        let stack = |calls: &[&str], count| Stack {
            thread: "worker-0".to_owned(),
            frames: calls.iter().rev().map(|name| frame(name)).collect(),
            count,
        };
        let stacks = Stacks {
            started: SystemTime::UNIX_EPOCH,
            duration: Duration::from_secs(1),
            period: Duration::from_millis(10),
            stacks: vec![stack(&["main", "Vec<u8>::push"], 1), stack(&["main"], 3)],
        };
        let picture = svg(&stacks);
        assert!(picture.contains("<title>main (4 samples, 100.0 %)</title>"), "{picture}");
        assert!(picture.contains("<title>Vec&lt;u8&gt;::push (1 samples, 25.0 %)</title>"), "{picture}");
        assert!(picture.contains("width=\"300.0\""), "{picture}");
        assert_eq!(picture.matches("<g>").count(), picture.matches("</g>").count());
    }
}
