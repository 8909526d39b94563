"""What an owner sees at a glance."""


def test_each_owner_sees_its_own_work_and_the_whole_cluster(new_tenants):
    with new_tenants() as tenants:
        tenants.service.await_submission()
        tenants.service.adapt(dataset_id=tenants.ids["dataset_id"], prior="none")
        seen = {
            token: tenants.ask("GET", "/v1/overview", token=token).json()
            for token in (tenants.ann, tenants.bob, tenants.operator)
        }
        assert [len(seen[tenants.ann][name]) for name in ("running", "waiting")] == [1, 1]
        for token in (tenants.bob, tenants.operator):
            assert seen[token]["running"] == seen[token]["waiting"] == []
            assert {number for counts in seen[token]["counts"].values() for number in counts.values()} == {0}
            assert seen[token]["cluster"] == seen[tenants.ann]["cluster"]
