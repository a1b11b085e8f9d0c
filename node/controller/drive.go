package controller

import (
	"context"
	"errors"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// insert puts a fresh medium into a running guest.
func (g *guest) insert(life context.Context, inst *nodelink.Instance) {
	g.takeMedium(life, "replaced")
	sum := g.mediumSum(inst)
	path, err := g.c.makeMedium(inst, g.record.Forked)
	if err != nil {
		// The same sealed credential will never open; only a new one is a new try.
		g.remember(sum)
		g.log.Error("make medium", "error", err)
		g.tell(stageMediumFailed, map[string]string{"reason": clip(err.Error())})
		return
	}
	g.medium = path
	g.c.cfg.Trouble.MediumWritten(life, g.id, path)
	if g.c.cfg.Trouble.DriveEmpty(g.id) {
		g.log.Info("the medium falls out of the drive")
	} else if err := g.machine.InsertMedium(life, path); err != nil {
		g.log.Warn("insert medium", "error", err)
		g.tell(stageMediumFailed, map[string]string{"reason": clip(err.Error())})
		g.wipeMedium("not inserted")
		g.choreTimer.Reset(chorePause)
		return
	}
	g.limitMedium(inst)
	g.remember(sum)
	g.tellInserted()
	g.c.cfg.Trouble.MediumInserted(life, g.id)
}

// tellInserted tells that the medium with the guest's present credential is in the drive.
func (g *guest) tellInserted() {
	attributes := map[string]string{}
	if sum := g.record.Credential; sum != bootMedium {
		attributes["credential"] = sum
	}
	g.tell(stageInserted, attributes)
}

// keepsMedium says whether the instance's guest is an original one (profile 1 of the key-delivery protocol), which
// reads its medium anew for every download: it stays for the guest's life.
func keepsMedium(inst *nodelink.Instance) bool {
	return keydelivery.Profile(inst.GetCredential().GetProfile()) == keydelivery.Profile1
}

// alive says whether the guest has told of itself; an original one knows no milestones.
func (g *guest) alive() bool { return g.spoke || keepsMedium(g.record.Instance) }

// limitMedium bounds the life of the medium in the drive.
func (g *guest) limitMedium(inst *nodelink.Instance) {
	if !keepsMedium(inst) {
		g.mediumTimer.Reset(g.c.cfg.MediumLife)
	}
}

// remember notes that the guest was given the credential sum.
func (g *guest) remember(sum string) {
	if sum != g.record.Credential {
		g.record.Media++
	}
	g.record.Credential = sum
	g.inherited = false
	if err := g.c.files.save(g.record); err != nil {
		g.log.Error("remember the medium", "error", err)
	}
}

// takeMedium empties the drive and wipes the image, whatever the drive says.
func (g *guest) takeMedium(life context.Context, reason string) {
	g.mediumTimer.Stop()
	if g.medium == "" {
		return
	}
	g.ejectMedium(life)
	g.wipeMedium(reason)
}

func (g *guest) ejectMedium(life context.Context) {
	err := g.machine.EjectMedium(life)
	g.eject = err != nil && !errors.Is(err, hypervisor.ErrNoMedium) && !errors.Is(err, hypervisor.ErrNotFound)
	if g.eject {
		g.log.Warn("eject medium", "error", err)
		g.choreTimer.Reset(chorePause)
	}
}

// wipeMedium overwrites and removes the image, and tells it when that is done.
func (g *guest) wipeMedium(reason string) {
	if g.medium == "" {
		return
	}
	g.mediumTimer.Stop()
	path, sum := g.medium, g.record.Credential
	g.medium = ""
	if err := g.c.media.wipe(path, func() { g.tellWiped(reason, sum) }); err != nil {
		g.log.Error("wipe medium", "error", err)
	}
}

// tellWiped tells that the medium with the credential sum is gone.
func (g *guest) tellWiped(reason, sum string) {
	if reason == nodelink.WipedRead || reason == nodelink.WipedExpired {
		g.spend(sum)
	}
	attributes := map[string]string{"reason": reason}
	if sum != bootMedium {
		attributes["credential"] = sum
	}
	g.tell(nodelink.StageMediumWiped, attributes)
}

// chores tries again what did not work.
func (g *guest) chores(life context.Context) {
	if g.eject {
		g.ejectMedium(life)
	}
	g.update(life)
}
