//! `pointsman hardware`: the catalog as a table, each number with the source it comes from.

use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table, presets};
use pointsman_backends::hardware::{Catalog, catalog};

/// Prints it.
pub fn run() -> anyhow::Result<ExitCode> {
    super::print(&text())?;
    Ok(ExitCode::SUCCESS)
}

/// The table, one column for each entry.
pub fn text() -> String {
    let entries: Vec<_> = catalog().entries().iter().map(|hardware| hardware.row()).collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    for (row, name) in Catalog::COLUMNS.iter().enumerate() {
        let cells = entries.iter().map(|entry| entry.get(row).map_or("", String::as_str));
        let line: Vec<&str> = std::iter::once(*name).chain(cells).collect();
        if row == 0 {
            table.set_header(line);
        } else {
            table.add_row(line);
        }
    }
    let legend = "S read in a primary source, D derived from such, 2 press only, R recalled, A assumed\n";
    format!("{table}\n{legend}")
}
