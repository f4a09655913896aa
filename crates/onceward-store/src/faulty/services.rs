//! The verbs of services and schedules, past what the script says.

use async_trait::async_trait;
use onceward_core::{Namespace, Result, ScheduleName, ServiceName};

use super::{Faulty, Verb};
use crate::store::{
    BeginTerm, Begun, DueSchedules, EndTerm, ListSchedules, ListedSchedules, ListedServices, LookService,
    MissTerm, PruneTerms, ServiceStore, ServiceView, WriteSchedule, WriteService,
};

#[async_trait]
impl ServiceStore for Faulty {
    async fn service_look(&self, ask: &LookService) -> Result<ServiceView> {
        read!(self, ServiceLook, service_look, ask)
    }

    async fn service_list(&self, namespace: &Namespace) -> Result<ListedServices> {
        read!(self, ServiceList, service_list, namespace)
    }

    async fn service_write(&self, ask: &WriteService) -> Result<bool> {
        read!(self, ServiceWrite, service_write, ask)
    }

    async fn service_begin(&self, ask: &BeginTerm) -> Result<Begun> {
        read!(self, ServiceBegin, service_begin, ask)
    }

    async fn service_end(&self, ask: &EndTerm) -> Result<bool> {
        read!(self, ServiceEnd, service_end, ask)
    }

    async fn service_ring(&self, namespace: &Namespace, name: &ServiceName) -> Result<()> {
        let (store, namespace, name) = (self.inner.clone(), namespace.clone(), name.clone());
        let call = async move { store.service_ring(&namespace, &name).await };
        self.call(Verb::ServiceRing, None, call).await
    }

    async fn service_miss(&self, batch: &[MissTerm]) -> Result<()> {
        read!(self, ServiceMiss, service_miss, batch)
    }

    async fn service_prune(&self, ask: &PruneTerms) -> Result<u64> {
        read!(self, ServicePrune, service_prune, ask)
    }

    async fn schedule_list(&self, ask: &ListSchedules) -> Result<ListedSchedules> {
        read!(self, ScheduleList, schedule_list, ask)
    }

    async fn schedule_due(&self, namespace: &Namespace, limit: usize) -> Result<DueSchedules> {
        let (store, namespace) = (self.inner.clone(), namespace.clone());
        let call = async move { store.schedule_due(&namespace, limit).await };
        self.call(Verb::ScheduleDue, None, call).await
    }

    async fn schedule_write(&self, ask: &WriteSchedule) -> Result<bool> {
        read!(self, ScheduleWrite, schedule_write, ask)
    }

    async fn schedule_remove(
        &self,
        namespace: &Namespace,
        name: &ScheduleName,
        version: i64,
    ) -> Result<bool> {
        let (store, namespace, name) = (self.inner.clone(), namespace.clone(), name.clone());
        let call = async move { store.schedule_remove(&namespace, &name, version).await };
        self.call(Verb::ScheduleRemove, None, call).await
    }
}
