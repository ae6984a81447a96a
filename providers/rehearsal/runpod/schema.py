"""The part of RunPod's GraphQL schema that clients use: types, arguments, inputs. Data only; checking.py applies it."""

from __future__ import annotations

from collections.abc import Mapping

PUBLIC = {"gpuTypes", "dataCenters", "countryCodes", "cpuFlavors", "__typename"}  # answered without a key


def _fields(words: str, **others: str) -> dict[str, str]:
    """Scalars by name, and fields of other types."""
    return {**dict.fromkeys(words.split(), ""), **others}


def _all(kind: str, words: str) -> dict[str, str]:
    """Input fields of one type."""
    return dict.fromkeys(words.split(), kind)


OBJECTS: Mapping[str, Mapping[str, str]] = {
    "query": _fields(
        "countryCodes", gpuTypes="GpuType", dataCenters="DataCenter", cpuFlavors="CpuFlavor", myself="User", pod="Pod"
    ),
    "mutation": _fields(
        "podTerminate deleteTemplate deleteRegistryAuth deleteNetworkVolume",
        podFindAndDeployOnDemand="Pod",
        podRentInterruptable="Pod",
        deployCpuPod="Pod",
        podStop="Pod",
        podResume="Pod",
        podBidResume="Pod",
        podEditJob="Pod",
        saveTemplate="PodTemplate",
        saveRegistryAuth="UserRegistryAuth",
        updateRegistryAuth="UserRegistryAuth",
        createNetworkVolume="NetworkVolume",
        updateNetworkVolume="NetworkVolume",
        updateUserSettings="User",
    ),
    "GpuType": _fields(
        "id displayName manufacturer memoryInGb cudaCores secureCloud communityCloud securePrice communityPrice"
        " secureSpotPrice communitySpotPrice oneWeekPrice oneMonthPrice threeMonthPrice sixMonthPrice clusterPrice"
        " maxGpuCount maxGpuCountSecureCloud maxGpuCountCommunityCloud minPodGpuCount",
        lowestPrice="LowestPrice",
        nodeGroupDatacenters="DataCenter",
    ),
    "LowestPrice": _fields(
        "minimumBidPrice uninterruptablePrice minVcpu minMemory stockStatus compliance countryCode"
        " maxUnreservedGpuCount availableGpuCounts gpuName gpuTypeId"
    ),
    "DataCenter": _fields("id name location listed storageSupport", gpuAvailability="GpuAvailability"),
    "GpuAvailability": _fields("available stockStatus gpuTypeId displayName gpuTypeDisplayName"),
    "CpuFlavor": _fields("id groupId groupName displayName minVcpu maxVcpu ramMultiplier", specifics="CpuSpecifics"),
    "CpuSpecifics": _fields("stockStatus securePrice slsPrice"),
    "User": _fields(
        "id email pubKey clientBalance currentSpendPerHr spendLimit",
        pods="Pod",
        networkVolumes="NetworkVolume",
        podTemplates="PodTemplate",
        containerRegistryCreds="UserRegistryAuth",
    ),
    "Pod": _fields(
        "id name desiredStatus lastStatusChange imageName env dockerArgs dockerId costPerHr gpuCount vcpuCount"
        " memoryInGb containerDiskInGb volumeInGb volumeMountPath ports port podType uptimeSeconds machineId createdAt"
        " lastStartedAt networkVolumeId templateId containerRegistryAuthId clusterIp locked",
        machine="PodMachine",
        runtime="PodRuntime",
    ),
    "PodMachine": _fields("gpuDisplayName podHostId location dataCenterId gpuTypeId costPerHr secureCloud"),
    "PodRuntime": _fields("uptimeInSeconds", ports="PodPort", gpus="PodGpu", container="PodContainer"),
    "PodPort": _fields("ip isIpPublic privatePort publicPort type"),
    "PodGpu": _fields("id gpuUtilPercent memoryUtilPercent"),
    "PodContainer": _fields("cpuPercent memoryPercent"),
    "NetworkVolume": _fields("id name size dataCenterId", dataCenter="DataCenter"),
    "PodTemplate": _fields(
        "id name imageName dockerArgs containerDiskInGb volumeInGb volumeMountPath ports isServerless",
        env="EnvironmentVariable",
    ),
    "EnvironmentVariable": _fields("key value"),
    "UserRegistryAuth": _fields("id name"),
}

_DEPLOY = {
    **_all(
        "String",
        "name imageName gpuTypeId dataCenterId countryCode volumeMountPath networkVolumeId ports dockerArgs templateId"
        " containerRegistryAuthId minCudaVersion volumeKey",
    ),
    **_all("Int", "gpuCount containerDiskInGb volumeInGb minVcpuCount minMemoryInGb minDownload minUpload minDisk"),
    **_all("Boolean", "supportPublicIp startSsh startJupyter globalNetwork"),
    **_all("DateTime", "stopAfter terminateAfter"),
    **_all("[String]", "gpuTypeIdList allowedCudaVersions dataCenterIds"),
    "cloudType": "CloudTypeEnum",
    "env": "[EnvironmentVariableInput]",
    "compliance": "[String]",
    "deployCost": "Float",
}
INPUTS: Mapping[str, Mapping[str, str]] = {
    "PodFindAndDeployOnDemandInput": _DEPLOY,
    "PodRentInterruptableInput": {**_DEPLOY, "bidPerGpu": "Float!"},
    "DeployCpuPodInput": {**_DEPLOY, "instanceId": "String", "deployCost": "Float"},
    "PodInput": {"podId": "String!", "gpuCount": "Int", "bidPerGpu": "Float"},
    "PodEditJobInput": {
        "podId": "String!",
        "containerRegistryAuthId": "String",
        "imageName": "String",
        "env": _DEPLOY["env"],
    },
    "GpuTypeFilter": {"id": "String", "ids": "[String]", "cluster": "Boolean"},
    "GpuLowestPriceInput": {
        **_all("Int", "gpuCount minDisk minMemoryInGb minVcpuCount totalDisk"),
        **_all("Boolean", "secureCloud supportPublicIp includeAiApi"),
        **_all("String", "dataCenterId countryCode minCudaVersion"),
        **_all("[String]", "allowedCudaVersions compliance"),
    },
    "GpuAvailabilityInput": {"gpuCount": "Int", "secureCloud": "Boolean", "minDisk": "Int", "minMemoryInGb": "Int"},
    "CpuSpecificsInput": {"dataCenterId": "String", "instanceId": "String"},
    "EnvironmentVariableInput": {"key": "String!", "value": "String!"},
    "SaveTemplateInput": {
        **_all("String", "id volumeMountPath ports readme containerRegistryAuthId"),
        **_all("String!", "name imageName dockerArgs"),
        **_all("Int!", "containerDiskInGb volumeInGb"),
        **_all("Boolean", "isServerless startSsh startJupyter isPublic"),
        "env": "[EnvironmentVariableInput]!",
    },
    "SaveRegistryAuthInput": {"name": "String!", "username": "String!", "password": "String!"},
    "UpdateRegistryAuthInput": {"id": "String!", "username": "String!", "password": "String!"},
    "CreateNetworkVolumeInput": {"name": "String!", "size": "Int!", "dataCenterId": "String!"},
    "UpdateNetworkVolumeInput": {"id": "String!", "name": "String", "size": "Int"},
    "DeleteNetworkVolumeInput": {"id": "String!"},
    "UserSettingsInput": {"pubKey": "String"},
}
ENUMS = {"CloudTypeEnum": ("ALL", "SECURE", "COMMUNITY")}
ARGUMENTS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("query", "gpuTypes"): {"input": "GpuTypeFilter"},
    ("query", "pod"): {"input": "PodInput"},
    ("GpuType", "lowestPrice"): {"input": "GpuLowestPriceInput"},
    ("DataCenter", "gpuAvailability"): {"input": "GpuAvailabilityInput"},
    ("CpuFlavor", "specifics"): {"input": "CpuSpecificsInput"},
    ("mutation", "podFindAndDeployOnDemand"): {"input": "PodFindAndDeployOnDemandInput"},
    ("mutation", "podRentInterruptable"): {"input": "PodRentInterruptableInput!"},
    ("mutation", "deployCpuPod"): {"input": "DeployCpuPodInput!"},
    **{("mutation", f"pod{verb}"): {"input": "PodInput!"} for verb in ("Stop", "Resume", "BidResume", "Terminate")},
    ("mutation", "podEditJob"): {"input": "PodEditJobInput!"},
    ("mutation", "saveTemplate"): {"input": "SaveTemplateInput!"},
    ("mutation", "deleteTemplate"): {"templateName": "String!"},
    ("mutation", "saveRegistryAuth"): {"input": "SaveRegistryAuthInput!"},
    ("mutation", "updateRegistryAuth"): {"input": "UpdateRegistryAuthInput!"},
    ("mutation", "deleteRegistryAuth"): {"registryAuthId": "String!"},
    ("mutation", "createNetworkVolume"): {"input": "CreateNetworkVolumeInput!"},
    ("mutation", "updateNetworkVolume"): {"input": "UpdateNetworkVolumeInput!"},
    ("mutation", "deleteNetworkVolume"): {"input": "DeleteNetworkVolumeInput!"},
    ("mutation", "updateUserSettings"): {"input": "UserSettingsInput"},
}
