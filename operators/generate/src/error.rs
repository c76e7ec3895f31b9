//! What can be wrong with a generator's options.

use thalweg_stream::Fault;

/// Why there is no such generator, or why it cannot go on where it stopped.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// An option has a value that makes no sense.
    #[error("generate: \"{option}\" is {value}, but must be {must}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What it was given.
        value: String,
        /// What it may be.
        must: &'static str,
    },
    /// The three probabilities exclude each other, so together they are a probability too.
    #[error("generate: \"late\", \"duplicates\" and \"corrupt\" together are {0}, more than 1")]
    Probabilities(f64),
    /// A word for `what` that names nothing.
    #[error("generate: cannot generate {0:?}; there is fleet, vehicles and weather")]
    What(String),
    /// A metadata field that there is not.
    #[error("generate: no metadata field {0:?}; there is offset")]
    Metadata(String),
    /// The checkpoint was made with other options.
    #[error(
        "generate: the checkpoint's records were made with {checkpoint}, the definition says \
         {definition}: the records after the checkpoint would not be those of the same stream"
    )]
    Changed {
        /// Options in the checkpoint.
        checkpoint: String,
        /// Options now.
        definition: String,
    },
    /// A split's offset is one that no such generator can have come to.
    #[error("generate: the checkpoint's offset {offset} of {split:?} is beyond its end at {end}")]
    Offset {
        /// The split's name.
        split: String,
        /// Its offset.
        offset: u64,
        /// Its end.
        end: u64,
    },
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        // All of them are the definition's: the generator touches nothing outside.
        Self::user(error.to_string())
    }
}
