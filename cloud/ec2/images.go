package ec2

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"regexp"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
)

// ImageInfo is a guest image that the cloud knows.
type ImageInfo struct {
	Name string // lbvm, web
	// Digest is "sha256:" + hex digest of the image's manifest; empty means whatever a node holds under the name.
	Digest      string
	Description string
	// Public images can be used by every account, others by system accounts only.
	Public  bool
	Created time.Time
	// DeliveryProfile is the profile of the key-delivery protocol that its guests speak: 1 for those of the original
	// Eucalyptus, whose identities are RSA; zero means 2.
	DeliveryProfile keydelivery.Profile
}

// ImageID returns the AMI id of an image: the same for every build of it.
func ImageID(name string) string {
	sum := sha256.Sum256([]byte("cloudtwin/" + name))
	return "ami-" + hex.EncodeToString(sum[:])[:17]
}

type imageTable struct {
	ordered []ImageInfo
	byID    map[string]ImageInfo
	byName  map[string]ImageInfo
}

func newImageTable(images []ImageInfo) imageTable {
	t := imageTable{byID: map[string]ImageInfo{}, byName: map[string]ImageInfo{}}
	for _, image := range images {
		t.ordered = append(t.ordered, image)
		t.byID[ImageID(image.Name)] = image
		t.byName[image.Name] = image
	}
	return t
}

func (i ImageInfo) visibleTo(caller authn.Caller) bool { return i.Public || caller.System }

var imageIDPattern = regexp.MustCompile(`^ami-[0-9a-f]{8}([0-9a-f]{9})?$`)

// find returns the image with that id, with EC2's errors; what a caller may not see is not there.
func (t imageTable) find(caller authn.Caller, id string) (ImageInfo, error) {
	if !imageIDPattern.MatchString(id) {
		return ImageInfo{}, model.Errorf("InvalidAMIID.Malformed", http.StatusBadRequest,
			"Invalid id: %q (expecting \"ami-...\")", id)
	}
	image, ok := t.byID[id]
	if !ok || !image.visibleTo(caller) {
		return ImageInfo{}, model.Errorf("InvalidAMIID.NotFound", http.StatusBadRequest,
			"The image id '[%s]' does not exist", id)
	}
	return image, nil
}

// InstanceType is a size of guest.
type InstanceType struct {
	Name     string
	VCPUs    int
	MemoryMB int
}

// DefaultInstanceType is what a launch without a type gets.
const DefaultInstanceType = "t3.nano"

// InstanceTypes returns the sizes that there are, smallest first. They are smaller than their namesakes on EC2:
// a guest here lives in its initramfs and needs 96 MB.
func InstanceTypes() []InstanceType {
	return []InstanceType{
		{Name: "t3.nano", VCPUs: 1, MemoryMB: 96},
		{Name: "t3.micro", VCPUs: 1, MemoryMB: 256},
		{Name: "t3.small", VCPUs: 2, MemoryMB: 512},
	}
}

func findInstanceType(name string) (InstanceType, bool) {
	if name == "" {
		name = DefaultInstanceType
	}
	for _, t := range InstanceTypes() {
		if t.Name == name {
			return t, true
		}
	}
	return InstanceType{}, false
}
