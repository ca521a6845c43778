//! The durable store: one contract for every store, and what comes of it when a store, a disk, a process or another writer fails.

mod bounds;
mod collecting;
mod contract;
mod crash;
mod damage;
mod disk;
mod faults;
mod faulty;
mod fixture;
mod golden;
mod properties;
mod refusals;
mod s3;
