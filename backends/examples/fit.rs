//! Prints the service model fitted to the measured machines of splitwise-sim, and how far it is off:
//!
//!     cargo run -p pointsman-backends --example fit

use pointsman_backends::simulators::fit::{Fit, Measured, SPLITWISE};

fn main() {
    println!("{}", Fit::HEADING);
    for fit in Fit::each(&Measured::parse(SPLITWISE)) {
        println!("{fit}");
    }
}
