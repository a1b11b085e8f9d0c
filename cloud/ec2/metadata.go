package ec2

import (
	"context"
	"net/http"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// apply changes what a request names and leaves the rest as it is.
func (m MetadataOptions) apply(in *ec2model.InstanceMetadataOptionsRequest) (MetadataOptions, error) {
	hops := model.Val(in.HttpPutResponseHopLimit)
	if in.HttpPutResponseHopLimit != nil && (hops < 1 || hops > 64) {
		return m, model.Errorf("InvalidParameterValue", http.StatusBadRequest,
			"Value (%d) for parameter HttpPutResponseHopLimit is invalid. Expecting 1 to 64.", hops)
	}
	if model.Val(in.HttpProtocolIpv6) == enabled {
		return m, model.Errorf("UnsupportedOperation", http.StatusBadRequest,
			"The parameter HttpProtocolIpv6 is not supported by this cloud.")
	}
	if in.HttpPutResponseHopLimit != nil {
		m.HopLimit = int(hops)
	}
	for _, option := range []struct {
		sent *string
		on   string
		to   *bool
	}{
		{in.HttpTokens, "required", &m.TokensRequired},
		{in.HttpEndpoint, disabled, &m.Disabled},
		{in.InstanceMetadataTags, enabled, &m.Tags},
	} {
		if option.sent != nil {
			*option.to = *option.sent == option.on
		}
	}
	return m, nil
}

// ModifyInstanceMetadataOptions changes what an instance's metadata service allows while the instance runs.
func (s *Service) ModifyInstanceMetadataOptions(ctx context.Context,
	in *ec2model.ModifyInstanceMetadataOptionsInput) (*ec2model.ModifyInstanceMetadataOptionsOutput, error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	list, err := s.selectInstances(caller, []string{model.Val(in.InstanceId)})
	if err != nil {
		return nil, err
	}
	change := &ec2model.InstanceMetadataOptionsRequest{
		HttpEndpoint: in.HttpEndpoint, HttpProtocolIpv6: in.HttpProtocolIpv6, HttpTokens: in.HttpTokens,
		HttpPutResponseHopLimit: in.HttpPutResponseHopLimit, InstanceMetadataTags: in.InstanceMetadataTags,
	}
	if *change == (ec2model.InstanceMetadataOptionsRequest{}) {
		return nil, model.Errorf("InvalidParameterCombination", http.StatusBadRequest,
			"The request must contain at least one of the metadata options")
	}
	if _, err := list[0].inst.Metadata.apply(change); err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	inst, err := s.update(ctx, list[0].inst.ID, func(_ *store.Tx, inst *Instance) error {
		if !inst.State.live() {
			return notLive(inst.ID)
		}
		changed, err := inst.Metadata.apply(change)
		if err != nil {
			return err
		}
		if changed == inst.Metadata {
			return errUnchanged
		}
		inst.Metadata = changed
		inst.Generation++
		return nil
	})
	if err != nil {
		return nil, err
	}
	options := wireMetadata(inst.Metadata)
	// The node is told at once, and has heard of it by the time the options are described.
	options.State = model.Ptr(ec2model.InstanceMetadataOptionsStatePending)
	return &ec2model.ModifyInstanceMetadataOptionsOutput{
		InstanceId: model.Ptr(inst.ID), InstanceMetadataOptions: options,
	}, nil
}
