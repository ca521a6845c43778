//! Metrics of one name that differ in their labels, told apart by those labels themselves. The vectors of `prometheus` go by a hash over
//! the values one after the other, without ends: `dev` and `opsmail` would be the same as `devops` and `mail`, who may be two tenants.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus::core::{Atomic, Collector, Desc, GenericCounter, GenericGauge, Metric};
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{Histogram, HistogramOpts, Opts};

/// Stands for the name and the help of a single metric, which are its family's: there are thousands.
const UNNAMED: &str = "m";

/// What a family is made of.
pub(crate) trait Kind: Metric + 'static {
    const TYPE: MetricType;

    /// A new one with these labels; `buckets` is for what has some.
    fn new(labels: HashMap<String, String>, buckets: &[f64]) -> prometheus::Result<Self>;
}

impl<P: Atomic + 'static> Kind for GenericCounter<P> {
    const TYPE: MetricType = MetricType::COUNTER;

    fn new(labels: HashMap<String, String>, _: &[f64]) -> prometheus::Result<Self> {
        Self::with_opts(Opts::new(UNNAMED, UNNAMED).const_labels(labels))
    }
}

impl<P: Atomic + 'static> Kind for GenericGauge<P> {
    const TYPE: MetricType = MetricType::GAUGE;

    fn new(labels: HashMap<String, String>, _: &[f64]) -> prometheus::Result<Self> {
        Self::with_opts(Opts::new(UNNAMED, UNNAMED).const_labels(labels))
    }
}

impl Kind for Histogram {
    const TYPE: MetricType = MetricType::HISTOGRAM;

    fn new(labels: HashMap<String, String>, buckets: &[f64]) -> prometheus::Result<Self> {
        Self::with_opts(HistogramOpts::new(UNNAMED, UNNAMED).const_labels(labels).buckets(buckets.to_vec()))
    }
}

/// A family; clones are the same one.
pub(crate) struct Family<M>(Arc<Inner<M>>);

struct Inner<M> {
    desc: Desc,
    buckets: Vec<f64>,
    /// By the values of its labels, in their order.
    metrics: RwLock<HashMap<Box<[String]>, M>>,
}

impl<M> Clone for Family<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Kind> Family<M> {
    /// Nothing is in it yet. The name is without the host's prefix.
    pub(crate) fn new(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> prometheus::Result<Self> {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let desc = Desc::new(format!("sandmill_{name}"), help.to_owned(), labels, HashMap::new())?;
        Ok(Self(Arc::new(Inner { desc, buckets: buckets.to_vec(), metrics: RwLock::default() })))
    }

    /// The one with these values, as many as the family has labels; made if there is none.
    pub(crate) fn with_label_values<V: AsRef<str>>(&self, values: &[V]) -> M {
        let values: Box<[String]> = values.iter().map(|value| value.as_ref().to_owned()).collect();
        let Inner { desc, buckets, metrics } = &*self.0;
        if let Some(metric) = metrics.read().unwrap_or_else(PoisonError::into_inner).get(&values) {
            return metric.clone();
        }
        assert_eq!(values.len(), desc.variable_labels.len(), "invariant: {} has so many labels", desc.fq_name);
        let mut metrics = metrics.write().unwrap_or_else(PoisonError::into_inner);
        let labels = desc.variable_labels.iter().cloned().zip(values.iter().cloned()).collect();
        let new = || M::new(labels, buckets).expect("invariant: names of labels and buckets are the page's own");
        metrics.entry(values).or_insert_with(new).clone()
    }
}

/// A family of which something may be removed, whatever it is made of.
pub(crate) trait Removable: Send + Sync {
    /// Whether it tells where the models of the release that answers stand.
    fn is_of_models(&self) -> bool;

    /// Removes what is of functions that are meant, by tenant and function.
    fn remove(&self, is_meant: &dyn Fn(&str, &str) -> bool);
}

impl<M: Kind> Removable for Family<M> {
    fn is_of_models(&self) -> bool {
        M::TYPE == MetricType::GAUGE && self.0.desc.fq_name.starts_with("sandmill_model_")
    }

    fn remove(&self, is_meant: &dyn Fn(&str, &str) -> bool) {
        let Inner { desc, metrics, .. } = &*self.0;
        let at = |label: &str| desc.variable_labels.iter().position(|known| known == label);
        let (Some(tenant), Some(function)) = (at("tenant"), at("function")) else { return };
        let mut metrics = metrics.write().unwrap_or_else(PoisonError::into_inner);
        metrics.retain(|values, _| !is_meant(&values[tenant], &values[function]));
    }
}

impl<M: Kind> Collector for Family<M> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Inner { desc, metrics, .. } = &*self.0;
        let mut family = MetricFamily::default();
        family.set_name(desc.fq_name.clone());
        family.set_help(desc.help.clone());
        family.set_field_type(M::TYPE);
        family.set_metric(metrics.read().unwrap_or_else(PoisonError::into_inner).values().map(Metric::metric).collect());
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use prometheus::IntCounter;

    use super::*;

    #[test]
    fn names_that_read_alike_one_after_the_other_are_told_apart() {
        let family: Family<IntCounter> = Family::new("x_total", "x", &["tenant", "function"], &[]).expect("a family");
        let value = |tenant, function| family.with_label_values(&[tenant, function]).get();
        family.with_label_values(&["dev", "opsmail"]).inc_by(3);
        family.with_label_values(&["devops", "mail"]).inc();
        assert_eq!((value("dev", "opsmail"), value("devops", "mail")), (3, 1));
        family.remove(&|tenant, function| (tenant, function) == ("dev", "opsmail"));
        assert_eq!((value("dev", "opsmail"), value("devops", "mail")), (0, 1));
    }
}
