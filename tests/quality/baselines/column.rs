//! One value for each endpoint, made when it is first asked for.

/// One value for each endpoint.
#[derive(Clone, Debug)]
pub struct Column<T> {
    values: Vec<T>,
}

impl<T> Default for Column<T> {
    fn default() -> Column<T> {
        Column { values: Vec::new() }
    }
}

impl<T: Default> Column<T> {
    /// The value of an endpoint.
    pub fn of(&mut self, endpoint: usize) -> &mut T {
        if self.values.len() <= endpoint {
            self.values.resize_with(endpoint + 1, T::default);
        }
        &mut self.values[endpoint]
    }
}
