//! Names that rows refer to by number, so that a row of two hundred thousand stays small.

use std::collections::HashMap;
use std::sync::Arc;

/// Names of one column. Names that come from callers (tenants, models) are as many as callers like; later ones count as
/// [`MORE`], and rows go on.
const MOST_NAMES: usize = 4_096;
/// Longest name that is kept, bytes: longer ones would make the bound above worthless.
const LONGEST_NAME: usize = 256;

/// The number of no name.
pub const NO_NAME: u16 = 0;
/// What names beyond the bound count as.
pub const MORE: &str = "(more)";

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// The class.
    Class,
    /// The route.
    Route,
    /// The policy, without its generation.
    Policy,
    /// The pool of the last attempt.
    Pool,
    /// The endpoint of the last attempt.
    Endpoint,
    /// The model asked for.
    Model,
    /// Who asked.
    Tenant,
    /// Code of a refusal, or what the last failed attempt failed for.
    Code,
}

/// Columns of names.
pub const COLUMNS: usize = Column::ALL.len();

impl Column {
    /// Every column, in the order of the declaration.
    pub const ALL: [Column; 8] = [
        Column::Class,
        Column::Route,
        Column::Policy,
        Column::Pool,
        Column::Endpoint,
        Column::Model,
        Column::Tenant,
        Column::Code,
    ];

    /// The name in filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Column::Class => "class",
            Column::Route => "route",
            Column::Policy => "policy",
            Column::Pool => "pool",
            Column::Endpoint => "endpoint",
            Column::Model => "model",
            Column::Tenant => "tenant",
            Column::Code => "code",
        }
    }
}

/// Every name, by column and number.
#[derive(Clone, Debug, Default)]
pub struct Names {
    tables: [Table; COLUMNS],
}

#[derive(Clone, Debug)]
struct Table {
    numbers: HashMap<Arc<str>, u16>,
    names: Vec<Arc<str>>,
}

impl Default for Table {
    fn default() -> Table {
        let names: Vec<Arc<str>> = vec!["".into(), MORE.into()];
        let numbers = names.iter().cloned().zip(0..).collect();
        Table { numbers, names }
    }
}

impl Names {
    /// The number of a name.
    pub fn number(&mut self, column: Column, name: &str) -> u16 {
        let Some(table) = self.tables.get_mut(column as usize) else { return NO_NAME };
        if let Some(number) = table.numbers.get(name) {
            return *number;
        }
        let cut = name.get(..name.floor_char_boundary(LONGEST_NAME)).unwrap_or_default();
        if let Some(number) = table.numbers.get(cut) {
            return *number;
        }
        if table.names.len() >= MOST_NAMES {
            return 1;
        }
        let number = u16::try_from(table.names.len()).unwrap_or(1);
        let name: Arc<str> = cut.into();
        table.names.push(Arc::clone(&name));
        table.numbers.insert(name, number);
        number
    }

    /// The name of a number; empty where there is none.
    pub fn name(&self, column: Column, number: u16) -> &str {
        self.of(column).get(usize::from(number)).map_or("", |name| name)
    }

    /// How many there are: whoever has looked names up looks again when it changes.
    pub fn count(&self) -> usize {
        self.tables.iter().map(|table| table.names.len()).sum()
    }

    /// Every name of a column, by number.
    pub fn of(&self, column: Column) -> &[Arc<str>] {
        self.tables.get(column as usize).map_or(&[], |table| &table.names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_and_too_many_are_one() {
        let mut names = Names::default();
        let acme = names.number(Column::Tenant, "acme");
        assert_eq!(names.number(Column::Tenant, ""), NO_NAME);
        for tenant in 0..2 * MOST_NAMES {
            names.number(Column::Tenant, &format!("tenant {tenant}"));
        }
        assert_eq!((names.number(Column::Tenant, "acme"), names.name(Column::Tenant, acme)), (acme, "acme"));
        let late = names.number(Column::Tenant, "a late one");
        assert_eq!(names.name(Column::Tenant, late), MORE);
        assert_eq!(names.of(Column::Tenant).len(), MOST_NAMES);
        assert_eq!(names.of(Column::Model).len(), 2, "columns are apart");
        let long = names.number(Column::Model, &"é".repeat(LONGEST_NAME));
        assert!(names.name(Column::Model, long).len() <= LONGEST_NAME);
        assert_eq!(names.number(Column::Model, &"é".repeat(LONGEST_NAME)), long);
    }
}
