param(
    [Parameter(Mandatory = $true)]
    [string]$Path,
    [int]$Days = 7
)

function Get-OldFile {
    param([string]$Folder, [datetime]$Before)
    Get-ChildItem -Path $Folder -Recurse -File | Where-Object { $_.LastWriteTime -lt $Before }
}

$limit = (Get-Date).AddDays(-$Days)
Get-OldFile -Folder $Path -Before $limit | ForEach-Object {
    Write-Host "Old: $($_.FullName)"
} 
Write-Output "Finished at $(Get-Date -Format o)"
