package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/e2e/leakscan"
	"github.com/cloudtwin/cloudtwin/node"
)

// site is a state folder that is looked at. name is a further node's; the one of the command itself has none.
type site struct {
	layout local.Layout
	name   string
}

// add has a run look at a site: its folders and its media with the LBPKs that lie there now and, if memory says so, the
// process that uses it and its guests. cloud is where the journal of deliveries is.
func (s site) add(r *leakscan.Run, cloud local.Layout, memory bool) error {
	media := filepath.Join(s.layout.Media(), "media")
	keys, err := leakscan.MediaKeys(media)
	if err != nil {
		return err
	}
	r.Keys, r.Media = append(r.Keys, keys...), append(r.Media, media)
	r.Trees = append(r.Trees, existing(string(s.layout), s.layout.Media())...)
	var own []string
	if s.name != "" {
		if keys, err = leakscan.NodeKeys(s.name, s.layout.Node()); err != nil {
			return err
		}
		if len(keys) == 0 {
			return &usageError{err: fmt.Errorf("--node: there is no node's identity in %s; name the folder that "+
				"'cloudtwin node' has as --state", s.layout.Node())}
		}
		for _, key := range keys {
			own = append(own, key.Name)
		}
		r.Keys = append(r.Keys, keys...)
	} else {
		own = nodeKeyNames(r.Keys)
	}
	if !memory {
		return nil
	}
	pids, err := local.GuestProcesses(s.layout)
	if err != nil {
		return err
	}
	r.Processes = append(r.Processes, leakscan.GuestsOf(cloud.Journal(), pids...)...)
	if pid := s.layout.Holder(); pid != 0 {
		r.Processes = append(r.Processes, s.process(pid, own))
	}
	return nil
}

// process is the one that uses the site's folder: a cloud, a node or both.
func (s site) process(pid int, own []string) leakscan.Process {
	p := leakscan.Process{Role: leakscan.Node, PID: pid, Own: own, Name: strings.TrimSpace("node " + s.name)}
	if simulated(pid) {
		p.Role = leakscan.Host
	}
	if _, err := os.Stat(filepath.Join(s.layout.Cloud(), "root.key")); err == nil {
		p.Name = "cloud"
		if len(own) == 0 {
			p.Role = leakscan.Cloud
		} else {
			p.Also, p.Name = []leakscan.Role{leakscan.Cloud}, "cloud and node"
		}
	}
	return p
}

// nodeKeyNames are the names of the NODEPKs among keys.
func nodeKeyNames(keys []leakscan.Key) (names []string) {
	for _, key := range keys {
		if strings.HasPrefix(key.Name, "NODEPK") {
			names = append(names, key.Name)
		}
	}
	return names
}

// simulated says whether a process of this program was told to simulate its guests, by flag or environment.
func simulated(pid int) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	line, err := os.ReadFile(filepath.Join(proc, "cmdline"))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	args := strings.Split(string(line), "\x00")
	for i, arg := range args {
		if value, ok := strings.CutPrefix(arg, "--guests="); ok {
			return value == string(node.GuestsSim)
		}
		if arg == "--guests" && i+1 < len(args) {
			return args[i+1] == string(node.GuestsSim)
		}
	}
	environment, err := os.ReadFile(filepath.Join(proc, "environ"))
	return err == nil && strings.Contains("\x00"+string(environment), "\x00"+local.GuestsVariable+"="+
		string(node.GuestsSim)+"\x00")
}
