//! The Ironlane sequencer.
