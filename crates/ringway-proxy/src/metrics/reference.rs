//! The reference page of metrics, `docs/reference/metrics.md`, written from the table.

use std::fmt::Write;

use super::table::all_rows;

/// The page as Markdown.
pub fn write_reference() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Served by the admin interface at `/metrics`, in the text format of Prometheus. This page is written from the\n\
         same table as that one; after a change of the table, `RINGWAY_UPDATE_DOCS=1 cargo test -p ringway-proxy\n\
         reference_page_is_current` writes it anew.\n\n\
         Counters start at zero when the process starts and only grow. Labels with fixed values are shown with them.\n\n\
         | metric | kind | unit | labels | meaning |\n|---|---|---|---|---|\n",
    );
    let rows = all_rows();
    for (index, row) in rows.iter().enumerate() {
        if index > 0 && rows[index - 1].name == row.name {
            continue;
        }
        let mut labels: Vec<String> = row.labels.iter().map(|label| format!("`{label}`")).collect();
        for (key, _) in row.fixed {
            let same = rows.iter().filter(|other| other.name == row.name).flat_map(|other| other.fixed);
            let values: Vec<String> = same.filter(|(k, _)| k == key).map(|(_, v)| format!("`{v}`")).collect();
            labels.push(format!("`{key}` ({})", values.join(", ")));
        }
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} |",
            row.name,
            row.kind.word(),
            if row.unit == "none" { "" } else { row.unit },
            labels.join(", "),
            row.help
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/metrics.md");

    #[test]
    fn reference_page_is_current() {
        let wanted = write_reference();
        if std::env::var_os("RINGWAY_UPDATE_DOCS").is_some() {
            std::fs::write(PATH, &wanted).expect("the page can be written");
        }
        let found = std::fs::read_to_string(PATH).expect("the page exists");
        assert!(
            found == wanted,
            "docs/reference/metrics.md is stale: run this test with RINGWAY_UPDATE_DOCS=1"
        );
    }
}
